"""The rollup index that a job writes: its mapping, its documents, who may write them."""
