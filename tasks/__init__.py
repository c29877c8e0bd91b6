"""The stages: plain functions on a `Project` (`project.py`) in three beats: load, one call of pure code, save.

A stage imports no Prefect and can be called from a test, a notebook or a flow body. The pure code is in `learning`
(arrays to a model and its metrics) and `sampling` (the pool to a batch). Start reading with `train.py`.
"""
