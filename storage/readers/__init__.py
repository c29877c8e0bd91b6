"""TODO page of storage/readers."""
