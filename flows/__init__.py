"""The order of the stages, and the `pal` command. No arithmetic, no SQL, no Prefect.

A flow body (`next_batch.py`, `ingest.py`, `nightly.py`, ...) is a plain function `body(run, ...)` that calls
`run.stage(function, ...)` for each step. `run.py` times and records the stages, and starts a body for a command: here,
or as a Prefect flow run where a server is up (`server/`). Start reading with `next_batch.py`, then `run.py`.
"""
