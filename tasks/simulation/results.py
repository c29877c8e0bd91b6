"""Summarize many replays: mean curves with intervals, areas, labels to a target, and comparisons with random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t

Floats = npt.NDArray[np.float64]

TIE = 0.005
"""Areas under two curves that differ by at most this are a tie."""


@dataclass(frozen=True)
class Curve:
    """A metric of one mix by the number of queried items, for several seeds.

    Attributes:
        mix: Name of the mix.
        n_asked: Number of queried items, (n_steps,), ascending.
        values: The metric, (n_seeds, n_steps), seeds in the same order for every mix; nan where undefined.
        encoder: Name of the encoder.
        batch_size: Items per batch.
    """

    mix: str
    n_asked: npt.NDArray[np.int64]
    values: Floats
    encoder: str = ""
    batch_size: int = 0

    @property
    def setting(self) -> tuple[str, int]:
        """Encoder and batch size; only curves of the same setting are compared."""
        return self.encoder, self.batch_size

    @property
    def means(self) -> Floats:
        """Mean over the seeds, (n_steps,)."""
        return np.asarray(np.nanmean(self.values, axis=0))

    def at(self, steps: npt.NDArray[np.int64]) -> Floats:
        """Return the mean at the given numbers of queried items (m,), interpolated linearly, (m,)."""
        return np.asarray(np.interp(steps, self.n_asked, self.means))

    def intervals(self) -> tuple[Floats, Floats]:
        """Return the bounds of the 95% interval of the mean by Student's t, (n_steps,) each; with one seed the mean."""
        n = len(self.values)
        if n < 2:
            return self.means, self.means
        half = t.ppf(0.975, n - 1) * np.nanstd(self.values, axis=0, ddof=1) / np.sqrt(n)
        return self.means - half, self.means + half

    def areas(self) -> Floats:
        """Return the area under the curve of each seed, divided by the range of `n_asked`, (n_seeds,)."""
        if len(self.n_asked) < 2:
            return np.asarray(self.values[:, 0])
        widths = np.diff(self.n_asked)
        middles = (self.values[:, 1:] + self.values[:, :-1]) / 2
        return np.asarray(middles @ widths / widths.sum())


@dataclass(frozen=True)
class Summary:
    """The summary of one curve.

    Attributes:
        curve: The curve.
        area: Mean area under the curve.
        low: Lower bound of the 95% interval of the area.
        high: Upper bound of the 95% interval of the area.
        to_target: Number of queried items at which the mean curve reaches the target; None if it does not.
        wins: Number of seeds with a larger area than random with the same encoder and batch size; 0 without such a
            baseline, as are `ties` and `losses`.
        ties: Number of seeds with an area that differs by at most `TIE`.
        losses: Number of seeds with a smaller area.
        gain: Mean over the seeds of the area minus that of random, and its 95% interval; None without such a baseline.
    """

    curve: Curve
    area: float
    low: float
    high: float
    to_target: int | None
    wins: int
    ties: int
    losses: int
    gain: tuple[float, float, float] | None


def summarise(curves: Sequence[Curve], target: float, baseline: str = "random") -> list[Summary]:
    """Summarize each curve; the largest area comes first.

    Args:
        curves: Curves of the same metric.
        target: The value of the metric to reach.
        baseline: Name of the mix that the others are compared with.
    """
    baseline_areas = {curve.setting: curve.areas() for curve in curves if curve.mix == baseline}
    summaries = []
    for curve in curves:
        areas = curve.areas()
        area, low, high = _mean(areas)
        reached = np.flatnonzero(curve.means >= target)
        base = baseline_areas.get(curve.setting)
        gains = areas - base if base is not None and curve.mix != baseline else np.full(len(areas), np.nan)
        summaries.append(
            Summary(
                curve,
                area,
                low,
                high,
                int(curve.n_asked[reached[0]]) if len(reached) else None,
                int(np.sum(gains > TIE)),
                int(np.sum(np.abs(gains) <= TIE)),
                int(np.sum(gains < -TIE)),
                _mean(gains) if not np.isnan(gains).all() else None,
            )
        )
    return sorted(summaries, key=lambda summary: -summary.area)


def _mean(values: Floats) -> tuple[float, float, float]:
    """Return the mean of one value per seed (n_seeds,), and its 95% interval."""
    curve = Curve("", np.zeros(1, np.int64), values[:, None])
    low, high = curve.intervals()
    return float(curve.means[0]), float(low[0]), float(high[0])
