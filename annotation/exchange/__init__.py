"""Files of other tools: a batch goes out in their import shape, and their exports come back as rows to check.

One file a tool: `write_<tool>` makes what the tool imports, `read_<tool>` takes what it exports, and `is_<tool>` tells
by an export's first entry (of `original`: by its rows) that it is one. `json_entries` is what their JSON has in common.
"""
