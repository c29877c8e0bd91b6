"""Pure: arrays in, ranked item ids out. One registry of sampling strategies, one contract, one mixer."""
