"""OpenSearch and Elasticsearch as a store: sources, rollup indices and claims are indices of one cluster."""
