"""What a rollup is, apart from any store: buckets, documents, due time ranges, ownership of records. Pure."""
