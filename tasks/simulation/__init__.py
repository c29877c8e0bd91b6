"""Replay the loop on labeled data, to see whether active learning would save labels.

`replay.py` is one replay in memory; `replays.py` runs many of them on all cores and resumes after a crash;
`results.py` summarizes them; `experiment.py` is the stage that combines these.
"""
