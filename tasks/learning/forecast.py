"""What more labels would bring: the average precision after them, from the present one and how curves usually go on."""

from __future__ import annotations

import math

from storage.records import Metric

SLOPE, SPREAD = 0.5, 0.8
"""By how much the log-odds of average precision grow as the logarithm of the number of labels grows by 1: the mean
over data sets, seeds and sizes, about, and the standard deviation. Measured by tests/benchmarks/forecast.py."""

LEAST_POSITIVES = 5
"""With fewer evaluation items of the positive label the present interval says too little for a forecast."""

LEAST_EVALUATION, LEAST_EACH = 50, 3
"""Evaluation items in all, and for each of many labels: the mean over the labels that a few items have is too high."""

_EDGE = 0.005


def forecast(now: Metric, n_labels: int, n_more: int) -> Metric | None:
    """Average precision with `n_more` further labels, with a 95 % interval; None where it is undefined now.

    A power law in the odds: they grow as (number of labels) ** SLOPE.

    >>> str(forecast(Metric("ap", 0.63, 0.55, 0.70), 300, 150))
    'AP 0.676 [0.504, 0.809]'
    """
    if now.value is None or now.low is None or now.high is None or not n_labels:
        return None
    growth = math.log((n_labels + n_more) / n_labels)
    value, low, high = (_log_odds(each) for each in (now.value, now.low, now.high))
    middle, spread = value + SLOPE * growth, 1.96 * SPREAD * growth
    return Metric(
        now.name,
        _share(middle),
        _share(middle - math.hypot(value - low, spread)),
        _share(middle + math.hypot(high - value, spread)),
    )


def _log_odds(share: float) -> float:
    inside = min(max(share, _EDGE), 1 - _EDGE)
    return math.log(inside / (1 - inside))


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
