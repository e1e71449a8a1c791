"""`kubectl rollup`: stop, start, run and understand rollup jobs with the caller's own rights, without the endpoint."""
