"""The stages: plain functions on a `Project` (`project.py`) in three steps: load, one call of pure code, save.

A stage imports no Prefect and can be called from a test, a notebook or a flow body. Start reading with `train.py`.

- `config/` is all of pal.toml: settings, reading, writing.
- `learning/` (arrays to a model and its metrics) and `sampling/` (the pool to a batch) are pure code.
- `simulation/` replays the loop on labeled data; `reporting/` makes pages and charts.
- `scale/` is the only package that knows about Dask workers.
"""
