"""Scoring on several machines: Dask workers (`workers.py`), and the pool in shards on them (`shards.py`).

Optional (extra `cluster`): without it, everything runs in one process.
"""
