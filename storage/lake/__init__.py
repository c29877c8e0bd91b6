"""TODO page of storage/lake."""
