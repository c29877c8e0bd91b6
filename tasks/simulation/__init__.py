"""TODO page of tasks/simulation."""
