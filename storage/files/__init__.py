"""Files and folders that are written completely or not at all, on disk or in an object store.

`folders.py` writes a folder under a temporary name and renames it in one step; its manifest is written last.
`mirror.py` synchronizes the folders of a workspace with an object store (`object_store.py`). `spreadsheets.py` writes a
table as an Excel workbook and escapes cells that a spreadsheet would execute.
"""
