"""The rollup index that a job writes: its mapping, its documents, and who may write them."""
