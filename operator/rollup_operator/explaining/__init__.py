"""A job's state in sentences, for people: what it does, what it waits for, what to do. Pure."""
