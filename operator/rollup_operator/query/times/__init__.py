"""Times of requests and answers: formats, date math, and where buckets begin. Pure."""
