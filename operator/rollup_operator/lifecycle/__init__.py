"""From what is asked to what is: the state table, one actor per job, and the index of all of them."""
