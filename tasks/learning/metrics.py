"""How good a model is: metrics with bootstrap intervals; an undefined one is None with its reason.

Every metric is computed for many weightings of the items at once: one row of weights is the plain metric, rows of
resampling counts are its bootstrap. Also what single numbers hide: precision against recall, calibration by bins,
confusion, and the worst mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from storage.records import Metric
from tasks.learning.calibration import Calibration
from tasks.learning.stopping import wilson_interval

N_RESAMPLES = 1000
MIN_RESAMPLES = 100
INTERVAL = (2.5, 97.5)
NO_WIDTH = 1e-9
FEW = 10
"""A bootstrap of fewer items is too sure of itself."""

N_BINS = 10
_CELLS = 4_000_000
_MAX_CELLS = 40_000_000

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Figure = Callable[[Floats], Floats]
"""Weights (b, n) of the n items to b values; nan where undefined."""


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on n items."""

    n: int
    metrics: tuple[Metric, ...]

    def value(self, name: str) -> float | None:
        """One figure; None where it is undefined."""
        return next(metric.value for metric in self.metrics if metric.name == name)


def evaluate(
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    names: Sequence[str],
    calibration: Calibration,
    *,
    seed: int = 0,
    item_weights: Floats | None = None,
) -> Evaluation:
    """Every figure of a model on held-out items, each with a 95 % bootstrap interval.

    Where all resamples say the same (6 of 6 are right), the interval is Wilson's for as many items as the figure rests
    on; where those are fewer than 10, it is at least as wide as that. The interval of a mean over labels, of which one
    has fewer, is at least that of a mean of independent figures. `f1`, `precision`, `recall`, `auc` and `ap` are
    about the positive label; where none is marked, they are the mean over the labels that the items have and for which
    they are defined (macro). With more than two labels each label's own stand beside them as `f1[name]` and so on.
    `ece` is the expected calibration error in 10 bins of equal width, `accuracy` the share of right decisions.

    Args:
        probabilities: (n, n_labels).
        labels: (n,).
        names: Of the labels.
        calibration: Makes the decisions, and says which label is the positive one.
        item_weights: What each item counts, (n,); None for all alike.
    """
    decisions = calibration.decisions(probabilities)
    weights = resamples(len(labels), n_resamples(len(labels)), np.random.default_rng(seed), item_weights)
    counted = range(len(names)) if len(names) > 2 or calibration.positive is None else [calibration.positive]
    per_label, supports = {}, {}
    for k in counted:
        figures = label_figures(probabilities[:, k].astype(np.float64), labels == k, decisions == k)
        per_label[names[k]] = {name: _resampled(figure, weights) for name, figure in figures.items()}
        supports[names[k]] = _supports(labels == k, decisions == k)
    found: list[Metric] = []
    if calibration.positive is not None:
        positive = names[calibration.positive]
        found += [_measured(*each, positive, supports[positive][each[0]]) for each in per_label[positive].items()]
    else:
        found += [_macro(name, name, per_label, supports) for name in next(iter(per_label.values()))]
    if len(names) > 2:
        for label, values_of in per_label.items():
            found += [
                _measured(f"{name}[{label}]", values, label, supports[label][name])
                for name, values in values_of.items()
            ]
        if calibration.positive is not None:
            found.append(_macro("macro_f1", "f1", per_label, supports))
    of_all = {"accuracy": _share(decisions == labels), "ece": _calibration_error(probabilities, labels, calibration)}
    found += [_measured(name, _resampled(figure, weights), "any label", len(labels)) for name, figure in of_all.items()]
    return Evaluation(len(labels), tuple(found))


def n_resamples(n: int) -> int:
    """How many resamples of n items: 1000, fewer where their weights would not fit (100 from 400,000 items on)."""
    return min(N_RESAMPLES, max(MIN_RESAMPLES, _MAX_CELLS // max(1, n)))


def resamples(n: int, count: int, generator: np.random.Generator, item_weights: Floats | None = None) -> Floats:
    """Weights (1 + count, n): a row of ones, then how often each item is drawn in `count` draws of n with return.

    The weights of an item are beside each other in memory: metrics that sort the items gather them.

    Args:
        item_weights: What each item counts, (n,): every row is multiplied by it.
    """
    drawn = [np.ones(n)] + [np.bincount(generator.integers(0, n, n), minlength=n).astype(float) for _ in range(count)]
    stacked = np.stack(drawn, axis=1)
    if item_weights is not None:
        stacked *= item_weights[:, None]
    return stacked.T


def label_figures(scores: Floats, truth: Bools, chosen: Bools) -> dict[str, Figure]:
    """The figures of one label against the rest.

    Args:
        scores: Its probability, (n,).
        truth: Where it is the label, (n,).
        chosen: Where the model decides for it, (n,).
    """
    hit = truth & chosen
    return {
        "f1": lambda weights: _ratio(2 * _total(weights, hit), _total(weights, truth) + _total(weights, chosen)),
        "precision": lambda weights: _ratio(_total(weights, hit), _total(weights, chosen)),
        "recall": lambda weights: _ratio(_total(weights, hit), _total(weights, truth)),
        "auc": lambda weights: area_under_roc(scores, truth, weights),
        "ap": lambda weights: average_precision(scores, truth, weights),
    }


def area_under_roc(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Chance that an item with the label scores above one without, a tie counting half; (b,), nan without both.

    Source: the Mann-Whitney statistic.
    """
    own, above, upto = _by_score(scores, truth, weights)
    own_upto, n_own = np.cumsum(own, axis=0), own.sum(axis=0)
    others_upto, others_above = upto - own_upto, above - (own_upto - own)
    n_others = weights.sum(axis=1) - n_own
    won = (own * (n_others - (others_upto + others_above) / 2)).sum(axis=0)
    return _ratio(won, n_own * n_others)


def average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Sum over cuts between different scores of precision times the recall gained there; (b,), nan without the label.

    Source: as in scikit-learn's `average_precision_score`.
    """
    own, _, upto = _by_score(scores, truth, weights)
    precision = _ratio(np.cumsum(own, axis=0), upto)
    return _ratio((own * np.nan_to_num(precision)).sum(axis=0), own.sum(axis=0))


def _by_score(scores: Floats, truth: Bools, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """At each of the k scores that items with the label have, from the highest on: three weights of (k, b).

    Returns:
        Of the items with the label there, of all items above, and of all items there or above.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, by_rank = -scores[order], weights.T[order]
    own = order[truth[order]]
    levels, starts = np.unique(-scores[own], return_index=True)
    if not len(levels):
        return (np.zeros((0, len(weights))),) * 3
    above, upto = (np.searchsorted(ranked, levels, side=side) for side in ("left", "right"))
    cuts = np.unique(np.concatenate([[0], above, upto[upto < len(ranked)]]))
    ends = np.append(cuts[1:], len(ranked))
    cumulative = np.cumsum(np.add.reduceat(by_rank, cuts, axis=0), axis=0)
    before = np.concatenate([np.zeros((1, len(weights))), cumulative])
    cuts = np.append(cuts[:1], ends)
    with_label = np.add.reduceat(weights.T[own], starts, axis=0)
    return with_label, before[np.searchsorted(cuts, above)], before[np.searchsorted(cuts, upto)]


def _calibration_error(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], calibration: Calibration
) -> Figure:
    """Mean gap between confidence and outcome over bins: of the positive label, else of the most probable one."""
    chosen = calibration.positive if calibration.positive is not None else probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), chosen].astype(np.float64)
    bins = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    gap = (labels == chosen) - confidence
    members = np.eye(N_BINS)[bins] * gap[:, None]
    return lambda weights: _ratio(np.abs(weights @ members).sum(axis=1), weights.sum(axis=1))


def _share(right: Bools) -> Figure:
    return lambda weights: _ratio(_total(weights, right), weights.sum(axis=1))


def _total(weights: Floats, members: Bools) -> Floats:
    """The weight (b,) of some items; few of many are gathered faster than they are multiplied."""
    total: Floats = weights.T[members].sum(axis=0)
    return total


def _supports(truth: Bools, chosen: Bools) -> dict[str, int]:
    """How many items each figure of a label rests on; of AUC as many as the smaller of the two groups has."""
    n_true = int(truth.sum())
    return {
        "f1": int((truth | chosen).sum()),
        "precision": int(chosen.sum()),
        "recall": n_true,
        "auc": min(n_true, len(truth) - n_true),
        "ap": n_true,
    }


def _macro(
    name: str, of: str, per_label: Mapping[str, Mapping[str, Floats]], supports: Mapping[str, Mapping[str, int]]
) -> Metric:
    """The mean of a metric over the labels that have it; where none has, the reason names them all."""
    present = {label: values[of] for label, values in per_label.items() if supports[label]["recall"]}
    defined = [label for label, values in present.items() if not np.isnan(values[0])]
    n = len(next(iter(per_label.values()))[of])
    support = min((supports[label][of] for label in defined), default=0)
    values = mean_of_defined([present[label] for label in defined], n)
    single = [_measured(of, present[label], label, supports[label][of]) for label in defined]
    return _measured(name, values, ", ".join(per_label), support, _of_independent(single))


def _of_independent(metrics: Sequence[Metric]) -> tuple[float, float] | None:
    """The interval of the mean of metrics whose errors are independent: squared distances to the ends add up."""
    ends = np.array([(each.value, each.low, each.high) for each in metrics], np.float64)
    if not len(ends):
        return None
    mean = float(ends[:, 0].mean())
    below, above = (float(np.sqrt(((ends[:, k] - ends[:, 0]) ** 2).sum())) / len(ends) for k in (1, 2))
    return max(0.0, mean - below), min(1.0, mean + above)


def mean_of_defined(values: Sequence[Floats], n: int) -> Floats:
    """The mean (n,) of several figures (n,), those that are nan left out; nan where all are."""
    stacked = np.array(values, np.float64).reshape(len(values), n)
    return _ratio(np.nansum(stacked, axis=0), (~np.isnan(stacked)).sum(axis=0))


def _resampled(figure: Figure, weights: Floats) -> Floats:
    """The metric under each row of weights, (b,), slice by slice; none where there are no items."""
    if weights.shape[1] == 0:
        return np.zeros(0)
    step = max(1, _CELLS // weights.shape[1])
    return np.concatenate([figure(weights[k : k + step]) for k in range(0, len(weights), step)])


def _measured(
    name: str, values: Floats, label: str, support: int, least_interval: tuple[float, float] | None = None
) -> Metric:
    """The metric with its interval, or the reason why there is none.

    Args:
        values: The metric, then those of its resamples.
        support: How many items it rests on.
        least_interval: What the interval contains if these are few; None for Wilson's.
    """
    if not len(values):
        return Metric(name, None, reason="there are no items to measure on")
    if np.isnan(values[0]):
        return Metric(name, None, reason=_why_undefined(name, label))
    value, defined = float(values[0]), values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(defined, _percentages(name, value, defined)) if len(defined) else (value, value)
    if high - low < NO_WIDTH or support < FEW:
        least, most = least_interval or _without_bootstrap(name, value, support)
        low, high = min(low, least), max(high, most)
    return Metric(name, value, min(value, float(low)), max(value, float(high)))


def _percentages(name: str, value: float, resampled: Floats) -> tuple[float, float]:
    """Which percentiles of the resamples are the interval.

    Those of average precision are corrected for bias: few positives make it too high, and duplicates of them again.

    Source: Efron (1981), Nonparametric standard errors and confidence intervals: the bias-corrected percentile method.
    """
    if not name.startswith("ap"):
        return INTERVAL
    n, normal = len(resampled), NormalDist()
    below = float(np.mean(resampled < value) + np.mean(resampled == value) / 2)
    shift = 2 * normal.inv_cdf(min(max(below, 0.5 / n), 1 - 0.5 / n))
    low, high = (100 * normal.cdf(shift + normal.inv_cdf(end / 100)) for end in INTERVAL)
    return low, high


def _without_bootstrap(name: str, value: float, support: int) -> tuple[float, float]:
    """Wilson's interval of a figure that is a share of `support` items, or is taken for one.

    F1 follows from such a share, of the items that have the label or get it: J = F1 / (2 - F1). An AUC between 0 and 1
    that no resample changes is that of one score for all items: it is exact.
    """
    if name.startswith("auc") and 0 < value < 1:
        return value, value
    if not name.startswith(("f1", "macro_f1")):
        return wilson_interval(value * support, support)
    low, high = wilson_interval(value / (2 - value) * support, support)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _why_undefined(name: str, label: str) -> str:
    base = name.split("[")[0]
    if base == "precision":
        return f"the model never decides for {label}"
    if base == "auc":
        return f"items with and without {label} are needed"
    if base in ("f1", "macro_f1"):
        return f"no item has, and no decision is for, {label}"
    return f"no item has {label}"


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


MOST_POINTS = 200


@dataclass(frozen=True)
class Bin:
    """Items whose probability lies in one of ten bins of equal width.

    Attributes:
        probability: Their mean probability, 0 to 1.
        share: How many of them have the label, 0 to 1; `low` and `high` are its 95 % interval.
    """

    probability: float
    share: float
    low: float
    high: float
    n: int


def precision_recall(
    scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """(recall, precision) at the cuts between different scores, recall rising; at most so many points, ends included.

    Args:
        scores: Probability of the label, (n,).
        truth: Where the items have it, (n,); with none the curve is empty.

    >>> precision_recall(np.array([0.9, 0.6, 0.6, 0.1]), np.array([True, True, False, False]))
    [(0.5, 1.0), (1.0, 0.6666666666666666), (1.0, 0.5)]
    """
    if not truth.any():
        return []
    order = np.argsort(-scores, kind="stable")
    found, ranked = np.cumsum(truth[order]), scores[order]
    cuts = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    if len(cuts) > most:
        cuts = cuts[np.unique(np.linspace(0, len(cuts) - 1, most).round().astype(np.int64))]
    return [(float(found[cut] / found[-1]), float(found[cut] / (cut + 1))) for cut in cuts]


def calibration_bins(probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> list[Bin]:
    """How often items of about the same probability have the label; bins without items are left out.

    Args:
        probabilities: Of the label, (n,).
        truth: Where the items have it, (n,).
    """
    bins = np.minimum((probabilities * N_BINS).astype(np.int64), N_BINS - 1)
    found = []
    for k in np.unique(bins):
        members = bins == k
        n, hits = int(members.sum()), int(truth[members].sum())
        found.append(Bin(float(probabilities[members].mean()), hits / n, *wilson_interval(hits, n), n))
    return found


def confusion(labels: npt.NDArray[np.int64], decisions: npt.NDArray[np.int64], n_labels: int) -> npt.NDArray[np.int64]:
    """How many items of each label (row) were decided for each label (column): (n_labels, n_labels).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts: npt.NDArray[np.int64] = np.bincount(labels * n_labels + decisions, minlength=n_labels**2)
    return counts.reshape(n_labels, n_labels)


def worst_mistakes(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], decisions: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    """Positions of the n wrong decisions that the model was surest of, the surest first.

    Args:
        probabilities: (n_items, n_labels).
        labels: (n_items,).
        decisions: (n_items,).
    """
    wrong = np.flatnonzero(labels != decisions)
    surety = probabilities[wrong, decisions[wrong]] - probabilities[wrong, labels[wrong]]
    return wrong[np.argsort(-surety, kind="stable")[:n]]
