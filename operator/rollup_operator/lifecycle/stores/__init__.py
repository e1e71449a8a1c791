"""RollupStores: their clients, their health, their status."""
