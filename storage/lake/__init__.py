"""The lake: DuckLake tables (Parquet plus a catalog) and the queries on them, one module per subject.

Start with `store.py`, the only way to read or write, then `schema.py`, which has the tables, migrations and views.
`items.py`, `batches.py`, `annotations.py`, `codebook.py`, `history.py` and `models.py` contain the SQL of one subject
each; `importing.py` fills the pool and `outgoing.py` reads rows for predictions and exports. There is no SQL elsewhere.
"""
