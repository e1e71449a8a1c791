"""Work in the event loop: background tasks, and long work in portions."""
