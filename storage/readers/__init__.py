"""Files of texts that a user brings: one reader for import, simulate, predict and ingest.

Start with `opening.py`: `open_source` detects the format of a file and returns a `Source` (`source.py`). A source
describes the detected layout (`Layout`) and yields Arrow tables together with the rejected rows, each with its line
number and a reason. A malformed row never affects its neighbors. `Source.all_rows` yields every row with all columns,
for `pal predict --file`. Each format has a module (`delimited.py` with `lines.py`, `json_lines.py`, `parquet.py`,
`ris.py`, `workbooks.py`). `columns.py` chooses the columns, or raises an error where a choice would be a guess.
`rows.py` holds the checks that apply to every row. `spellings.py` decides which spellings are the same label.

Workbooks are unpacked and parsed in a separate process with limited memory (`sheets.py` starts `workbook_process.py`).
Batch files (`annotation/formats`) share the encodings, dialects, header detection and sheets.
"""
