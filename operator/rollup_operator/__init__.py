"""A Kubernetes operator that runs Elasticsearch-style rollup jobs as RollupJob resources."""

__version__ = "0.1.0"
