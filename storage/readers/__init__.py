"""Files of texts that a user brings: the format is detected from the content, rows are read in chunks.

Start with `opening.py` (`open_source`): it detects what a file is and returns a `Source` (`source.py`), which yields
Arrow tables beside the rows it could not take, each with its line and reason. One bad row never costs another.
`rows.py` holds the checks that every row passes, whatever the format.
"""
