"""Files of texts that a user brings: one reader for import, simulate, predict and ingest.

Start with `opening.py` (`open_source`): it detects what a file is and returns a `Source` (`source.py`), which says what
it understood (`Layout`) and yields Arrow tables beside the rows it could not take, each with its line and reason. One
bad row never costs another. `Source.all_rows` yields every row with all columns, for `pal predict --file`. A format is
a module (`delimited.py` with `lines.py`, `json_lines.py`, `parquet.py`, `workbooks.py`, `ris.py`); `columns.py` chooses
columns, or refuses to guess; `rows.py` holds the checks that every row passes. `labelled.py` reads texts with labels
for a simulation, `spellings.py` says which spellings are one label.

Workbooks are unpacked and parsed in a process of its own (`sheets.py` starts `workbook_process.py`) whose memory is
limited. Batch files (`annotation/formats`) use the same encodings, dialects, header search and sheets.
"""
