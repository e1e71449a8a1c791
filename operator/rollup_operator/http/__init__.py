"""The endpoint that speaks Elasticsearch's rollup API."""
