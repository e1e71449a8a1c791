"""Logs, metrics and traces: what the operator tells of itself. It watches and never decides."""
