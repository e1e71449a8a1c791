"""Logs, metrics and traces: what the operator reports about itself. It observes and never decides."""
