"""What a rollup is, apart from any store: buckets, documents, what is due, whose a record is. Pure."""
