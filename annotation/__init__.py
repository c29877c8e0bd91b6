"""What annotators see, and what comes back from them.

- `label_set.py`: the question, the labels with their keys, and which cell of a file means which answer. Start here.
- `batch.py`: a published batch: its folder, its manifest and who gets which items.
- `formats/`: one module per file format, both ways.
- `inbox.py`, `claims.py`, `checks.py`: read filled files, check them against their batch and move them to `done`.
- `terminal.py`, `keys.py`: annotating in a terminal.
- `agreement.py`, `consensus.py`: how much annotators agree, and the consensus of their answers.
- `synthetic.py`: made-up headlines and a simulated annotator, for demos and tests.
"""
