"""TODO page of tasks/reporting."""
