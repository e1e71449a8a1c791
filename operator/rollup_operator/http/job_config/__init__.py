"""A job's configuration as Elasticsearch takes it."""
