"""The run of a job: bounds, pages, documents."""
