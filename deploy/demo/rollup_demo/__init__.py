"""The demo: real data, a real API server, one job that runs through and one that is stopped in the middle."""
