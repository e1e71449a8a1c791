"""Leader election: which replica leads, and for how long."""
