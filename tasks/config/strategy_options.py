"""Options of every sampling strategy, so that pal.toml is checked without numpy; a test holds them to the registry."""

from __future__ import annotations

STRATEGY_OPTIONS: dict[str, dict[str, bool | int | float | str]] = {
    "adaptive_representative": {"candidates": 10000},
    "anchor": {"anchors": 10, "neighbours": 50, "size": 1000, "score": "least_confidence"},
    "atlas": {"step": 10, "candidates": 10000},
    "badge": {"candidates": 100000},
    "bald": {"samples": 10, "dropout": 0.5, "batch": "power", "beta": 1.0},
    "cluster": {"per_cluster": 5},
    "clustered_uncertainty": {"share": 0.1, "per_cluster": 5},
    "contrastive": {"neighbours": 10, "candidates": 50000, "anchors": 1000},
    "core_set": {"anchors": 1000},
    "drop_query": {"samples": 3, "dropout": 0.75, "candidates": 20000},
    "entropy": {},
    "high_uncertainty_cluster": {"clusters": 20},
    "keyword": {},
    "least_confidence": {},
    "margin_confidence": {},
    "max_positive": {},
    "model_outlier": {},
    "outlier": {},
    "per_label": {"score": "least_confidence"},
    "probability_cover": {"radius": 0.55, "candidates": 10000},
    "random": {},
    "ratio_confidence": {},
    "representative": {},
    "representative_cluster": {"clusters": 20},
    "transfer_representative": {"candidates": 2000},
    "transfer_uncertainty": {},
    "typical_cluster": {"max_clusters": 200, "neighbours": 20, "candidates": 20000},
    "uncertain_model_outlier": {"share": 0.1},
}
"""Strategy -> option -> default."""
