"""The `pal` command: parsing and printing, nothing else.

`main.py` is the entry point: signals, messages, exit codes. `commands.py` assembles the command from one module per
group of commands (`*_commands.py`). Those are imported for every command, so they import libraries only inside of
functions; `pal --help` takes a fraction of a second.
"""
