"""TODO page of tasks/sampling/strategies."""
