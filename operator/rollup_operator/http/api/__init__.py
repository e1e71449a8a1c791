"""The calls of the API, one module each."""
