"""The formats of batch files, one module each: what goes out to annotators and how it comes back.

Start with `registry.py`, the list of formats, then `detection.py`: a filled file is recognized by its content, never
by its name. `json_entries.py` is what the JSON of other tools has in common; `zip_archive.py` unpacks several files.
"""
