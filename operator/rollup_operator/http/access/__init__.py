"""Authentication, authorization and per-caller limits of calls."""
