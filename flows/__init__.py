"""The flows, which put the stages in order, and the `pal` command; without arithmetic, SQL and Prefect.

A flow body (`next_batch.py`, `ingest.py`, `nightly.py`, ...) is a plain function `body(run, ...)` that calls
`run.stage(function, ...)` for each step. `run.py` times and records the stages, and runs a body for a command: in its
process, or, while a server is up, as a Prefect flow run (`server/`). Start reading with `next_batch.py`, then `run.py`.
"""
