"""TODO page of storage/upkeep."""
