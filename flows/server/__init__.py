"""Prefect's side: `pal up` (server, deployments, worker), and commands as flow runs of their deployments."""
