"""The Prefect server: `pal up` (`service.py`), and commands as flow runs of their deployments (`command_runs.py`).

Only `deployments.py` imports Prefect: it wraps the flow bodies of `flows`, and prefect.yaml refers to it. The other
modules call Prefect's REST API, so that commands without a server do not import Prefect, which takes seconds.
"""
