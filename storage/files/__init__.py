"""Files and folders that are written completely or not at all, on disk or in an object store.

`folders.py` writes a folder under a temporary name and renames it in one step; its manifest is written last.
`mirror.py` and `inbox_mirror.py` synchronize the folders of a workspace with an object store (`object_store.py`);
`seen_files.py` remembers the state of each file, to detect changes. `workbook_file.py` writes a table as an Excel
workbook, `formulas.py` escapes cells that a spreadsheet would execute.
"""
