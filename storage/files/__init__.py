"""TODO page of storage/files."""
