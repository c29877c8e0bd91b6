"""Files and folders that are there whole or not at all, on a disk or in an object store.

`folders.py` writes a folder beside its place and renames it in one step; its manifest is written last. `mirror.py` and
`inbox_mirror.py` keep a workspace's folders equal to their originals in an object store (`object_store.py`).
`workbook_file.py` writes a table as an Excel workbook.
"""
