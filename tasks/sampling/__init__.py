"""Pure code of query strategies: arrays in, ranked item ids out.

Start with `strategy.py` (the pool that strategies see, the registry, the contract), then `mixer.py`, which makes one
batch from several strategies. `strategies/` holds them by family; `catalogue.py` imports them all.
"""
