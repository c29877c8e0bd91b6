"""Advice on whether more labels would change much, and a forecast of what they would bring; nothing stops by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from storage.records import BatchResult, BatchStatus, Metric, Split, StopSign, WeightedShare

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Decisions = npt.NDArray[np.int64]

KAPPA = 0.99
CHANGE_OF_F = 0.05
WINDOW = 3
"""Number of successive models that must agree, and of successive batches without a positive."""

LEFT = 0.05
"""Fraction of all positives that may be left in the pool."""

ENOUGH = 2
"""Number of criteria that must hold before the advice is to stop."""

Z95 = 1.959964


@dataclass(frozen=True)
class Findings:
    """Inputs of the stopping criteria.

    Attributes:
        kappas: Kappa of successive models on a fixed sample, newest first; None if undefined.
        changes: Predicted changes of F between them, likewise.
        results: Results of the batches, oldest first.
        n_items: Number of items.
        n_pool: Number of items in the pool.
        weighted: What the evaluation reserve says of the share of positives where slices of imports have weights.
    """

    kappas: Sequence[float | None]
    changes: Sequence[float | None]
    results: Sequence[BatchResult]
    n_items: int
    n_pool: int
    weighted: WeightedShare | None = None

    @property
    def barren(self) -> int:
        """Number of newest active batches in a row without a positive; batches with few answers do not count."""
        counted = [
            result
            for result in self.results
            if result.active
            and result.purpose is Split.TRAINING
            and result.status is not BatchStatus.PUBLISHED
            and 2 * result.n_labelled >= result.n
        ]
        queried = [result.n_positive - result.n_reserve_positive for result in reversed(counted)]
        return next((k for k, n_positive in enumerate(queried) if n_positive), len(counted))

    def at_random(self, result: BatchResult) -> tuple[int, int]:
        """Labelled items of a batch that were drawn at random from the pool, and the positive ones among them.

        None of a training batch where there is an evaluation reserve, whose items say the same without being from a
        pool that strategies had a part in.
        """
        if result.purpose is Split.TRAINING and any(other.n_reserve for other in self.results):
            return 0, 0
        return result.n_random, result.n_random_positive

    @property
    def sampled(self) -> tuple[int, int]:
        """Number of labeled random items, from which the prevalence is estimated, and of positives among them."""
        drawn = [(*self.at_random(result), result.n_reserve, result.n_reserve_positive) for result in self.results]
        return sum(n + m for n, _, m, _ in drawn), sum(n + m for _, n, _, m in drawn)

    @property
    def prevalence(self) -> tuple[float, float, float]:
        """Fraction of positives among the items of `sampled`, weighted if they have weights, with its 95% interval."""
        n, positives = self.sampled
        if not self.weighted:
            return positives / n, *wilson_interval(positives, n)
        n_reserve = sum(result.n_reserve for result in self.results)
        drawn_positive = positives - sum(result.n_reserve_positive for result in self.results)
        share = (drawn_positive + self.weighted.share * n_reserve) / n
        n_effective = n - n_reserve + self.weighted.n_effective
        return share, *wilson_interval(share * n_effective, n_effective)

    @property
    def found(self) -> int:
        """Number of labeled positive items."""
        return sum(result.n_positive for result in self.results)


def positives_left(findings: Findings) -> tuple[float, float, float] | None:
    """Positive items without a label: the estimate and its 95 % interval; None without items drawn at random.

    Items of the evaluation reserve are a random sample of all N texts at any time, so there are share * N positives.
    Without any, a draw of random items from the N items that were left then, f positives being found already, says
    that there are share * N + f positives in all. Draws are averaged by their size, and what is found by now is taken
    off: so neither are early draws taken for what the pool is now, nor late ones, from a pool that sampling has emptied
    of positives, for what it was. The interval is Wilson's of the pooled share.
    """
    n = n_answered = n_found = 0
    mean_left = mean_found = mean_positive = 0.0
    for result in findings.results:
        n_left = findings.n_items - n_answered
        drawn, drawn_positive = findings.at_random(result)
        n += drawn + result.n_reserve
        mean_left += drawn * n_left + result.n_reserve * findings.n_items
        mean_found += drawn * n_found
        of_reserve = findings.weighted.share * result.n_reserve if findings.weighted else result.n_reserve_positive
        mean_positive += drawn_positive * n_left + of_reserve * findings.n_items
        n_answered, n_found = n_answered + result.n_answered, n_found + result.n_positive
    if not n:
        return None
    _, low, high = findings.prevalence
    shares = (mean_positive / n, low * mean_left / n, high * mean_left / n)
    estimate, least, most = (min(max(share + mean_found / n - n_found, 0.0), findings.n_pool) for share in shares)
    return estimate, least, most


def cohen_kappa(first: Decisions, second: Decisions) -> float | None:
    """Agreement of two models' decisions (n,) beyond chance, at most 1; None if both give all items one label.

    Source: Cohen (1960); to stop by: Bloodgood and Vijay-Shanker (2009), A Method for Stopping Active Learning Based on
    Stabilizing Predictions.

    >>> import numpy as np
    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    0.5
    """
    import numpy as np  # commands that only look at a workspace need not pay for it

    n_labels = int(max(first.max(initial=0), second.max(initial=0))) + 1
    shares = np.bincount(first * n_labels + second, minlength=n_labels**2).reshape(n_labels, n_labels) / len(first)
    by_chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    return float((np.trace(shares) - by_chance) / (1 - by_chance)) if by_chance < 1 else None


def change_of_f(first: Decisions, second: Decisions, positive: int) -> float | None:
    """1 - F1 of the older model's decisions (n,) if the newer one's were the truth; None without any positive.

    Source: Altschuler and Bloodgood (2019), Stopping Active Learning Based on Predicted Change of F Measure.

    >>> import numpy as np
    >>> round(change_of_f(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), positive=1), 3)
    0.333
    """
    import numpy as np

    both = np.count_nonzero((first == positive) & (second == positive))
    either = np.count_nonzero(first == positive) + np.count_nonzero(second == positive)
    return float(1 - 2 * both / either) if either else None


def wilson_interval(n_positive: float, n: float) -> tuple[float, float]:
    """95% interval of a fraction; 0 to 1 if n is 0.

    Source: Wilson (1927).

    >>> tuple(round(bound, 3) for bound in wilson_interval(8, 100))
    (0.041, 0.15)
    """
    if not n:
        return 0.0, 1.0
    share, z2 = n_positive / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def stop_signs(findings: Findings, *, has_positive: bool) -> tuple[StopSign, ...]:
    """All criteria with values and thresholds; those about positives only if there is a positive label."""
    signs = [_stable("kappa of successive models", findings.kappas, at_least=KAPPA)]
    if has_positive:
        signs += [
            _stable("predicted change of F", findings.changes, at_most=CHANGE_OF_F),
            _barren(findings.barren),
            *_left(findings),
        ]
    return tuple(signs)


def advice(signs: Sequence[StopSign]) -> str:
    """The advice in one sentence; a single criterion is no reason to stop if there are several."""
    defined = [sign for sign in signs if sign.holds is not None]
    holding = [sign.name for sign in defined if sign.holds]
    if len(holding) < min(ENOUGH, len(defined)):
        return f"go on ({len(holding)} of {len(defined)} stop signs)"
    return f"consider stopping ({len(holding)} of {len(defined)} stop signs: {', '.join(holding)})"


def _stable(
    name: str, values: Sequence[float | None], *, at_least: float | None = None, at_most: float | None = None
) -> StopSign:
    recent = values[:WINDOW]
    values_defined = [value for value in recent if value is not None]
    if at_least is not None:
        within, bound = all(value >= at_least for value in values_defined), f"at least {at_least}"
    else:
        within, bound = all(value <= (at_most or 0) for value in values_defined), f"at most {at_most}"
    newest_last = ", ".join("undefined" if value is None else f"{value:.3f}" for value in reversed(recent))
    return StopSign(
        name,
        recent[0] if recent else None,
        None,
        None,
        f"{bound}, {WINDOW} times in a row",
        len(values_defined) == WINDOW and within,
        newest_last or "no two models yet",
    )


def _barren(barren: int) -> StopSign:
    return StopSign(
        "batches without a positive", barren, None, None, f"at least {WINDOW} in a row", barren >= WINDOW, str(barren)
    )


def _left(findings: Findings) -> list[StopSign]:
    """Prevalence among random items, which is no sign by itself, and the positives that are left by it."""
    estimated = positives_left(findings)
    if estimated is None:
        return [StopSign("positives left in the pool", None, None, None, _LEFT_WORDS, False, "no random items yet")]
    n, positives = findings.sampled
    prevalence, low, high = findings.prevalence
    weighted = ", weighted by slice" if findings.weighted else ""
    share = f"{positives:,} of {n:,}{weighted}: {prevalence:.1%} [{low:.1%}, {high:.1%}]"
    left, least, most = map(round, estimated)
    return [
        StopSign("positives among random items", prevalence, low, high, "for information", None, share),
        StopSign(
            "positives left in the pool",
            left,
            least,
            most,
            _LEFT_WORDS,
            most <= LEFT * (findings.found + most),
            f"about {left:,} [{least:,}, {most:,}], {findings.found:,} found",
        ),
    ]


_LEFT_WORDS = f"upper end at most {LEFT:.0%} of all positives"


SLOPE, SPREAD = 0.5, 0.6
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
    'AP 0.676 [0.538, 0.787]'
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
