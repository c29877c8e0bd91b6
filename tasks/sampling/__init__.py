"""Query strategies: pure functions from arrays to ranked item ids.

Start with `strategy.py` (the pool, the registry, the contract of a strategy), then `mixer.py`, which combines several
strategies into one batch. `strategies/` has the strategies by family; `mixer.py` imports them all.
"""
