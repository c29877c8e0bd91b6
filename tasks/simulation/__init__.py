"""The loop replayed on labelled data: whether it would save labels.

`replay.py` is one replay in memory, `replays.py` runs many of them over the cores and resumes after a crash,
`results.py` summarizes them, and `experiment.py` is the stage that ties them together.
"""
