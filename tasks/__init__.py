"""The stages as Prefect tasks in three beats (load, one call, save) over the pure `learning` and `sampling`."""
