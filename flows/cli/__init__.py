"""TODO page of flows/cli."""
