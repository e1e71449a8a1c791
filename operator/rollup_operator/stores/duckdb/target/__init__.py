"""The result that a job writes: its table, and the Parquet file made of it."""
