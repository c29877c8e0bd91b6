"""The formats of batch files, one module each: how files for annotators are written and filled files are read.

Start with `registry.py`, the list of formats, then `detection.py`: a filled file is recognized by its content, never
by its name. `json_entries.py` is shared by the tools that use JSON; `zip_archive.py` unpacks archives.
"""
