"""TODO page of annotation/formats."""
