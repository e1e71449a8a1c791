"""Makes the answer of what was found: adds, builds the tree, computes pipelines, writes. Pure."""
