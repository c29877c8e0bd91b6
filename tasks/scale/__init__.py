"""TODO page of tasks/scale."""
