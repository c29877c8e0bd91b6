"""Prefect's side: `pal up` (`service.py`), and commands as flow runs of their deployments (`command_runs.py`).

Only `deployments.py` imports Prefect: it wraps the flow bodies of `flows`, and prefect.yaml points there. The others
call Prefect's REST API, so that commands without a server never pay for the import.
"""
