"""`kubectl rollup`: stop, start, run and inspect rollup jobs with the caller's own rights, without the endpoint."""
