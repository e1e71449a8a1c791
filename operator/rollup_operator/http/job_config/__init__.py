"""The configuration of a job as Elasticsearch accepts it."""
