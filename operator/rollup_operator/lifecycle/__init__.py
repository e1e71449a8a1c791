"""From what is asked to what is: the state table, one actor per job, and the registry of all of them."""
