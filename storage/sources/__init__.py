"""Files of texts a user brings: what they are is found out from their content, and they are read in chunks.

`opening.open_source(path)` recognises CSV in its many dialects, plain text, JSON lines and Parquet, says in one
line what it found out, and yields Arrow tables beside the rows it could not take, each with its line and reason.
`original.read_original(directory)` reads the directory of the original scripts. One bad row never costs another.

source.py      what a source is: chunks of rows, and rejects
opening.py     the one door for a file to import
detect.py      can it be read, JSON lines or not, which encoding: from the bytes
columns.py     which column is the text, the id, the date
dialect.py     delimiter, quotes, header: from the first lines
records.py     lines into records, strictly
rows.py        the checks that every row passes
dates.py       published_at from the ways people write a date
delimited.py, json_lines.py, parquet.py, original.py    the readers
"""
