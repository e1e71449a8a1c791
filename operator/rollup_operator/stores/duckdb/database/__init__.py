"""The database file: opened, taken over, inspected, shared, and confined to the folder of one namespace."""
