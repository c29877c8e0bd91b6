"""What many replays say together: mean curves with intervals, areas, labels to a target, and each mix beside random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t

Floats = npt.NDArray[np.float64]

TIE = 0.005
"""Areas under two curves that differ by less are level."""


@dataclass(frozen=True)
class Curve:
    """A figure of one mix against the items asked about, over several seeds.

    Attributes:
        n_asked: (n_steps,), ascending.
        values: (n_seeds, n_steps), the seeds in the same order for every mix; nan where undefined.
        encoder: With `batch_size` what else it was replayed with: only curves that have both in common are compared.
    """

    mix: str
    n_asked: npt.NDArray[np.int64]
    values: Floats
    encoder: str = ""
    batch_size: int = 0

    @property
    def setting(self) -> tuple[str, int]:
        """What it has in common with the curves it is compared with."""
        return self.encoder, self.batch_size

    @property
    def means(self) -> Floats:
        """Mean over the seeds, (n_steps,)."""
        return np.asarray(np.nanmean(self.values, axis=0))

    def at(self, steps: npt.NDArray[np.int64]) -> Floats:
        """Its mean at numbers of items asked about, on a straight line between two of its own steps."""
        return np.asarray(np.interp(steps, self.n_asked, self.means))

    def intervals(self) -> tuple[Floats, Floats]:
        """The 95 % interval of the mean at each step by Student's t; the mean itself where there is one seed."""
        n = len(self.values)
        if n < 2:
            return self.means, self.means
        half = t.ppf(0.975, n - 1) * np.nanstd(self.values, axis=0, ddof=1) / np.sqrt(n)
        return self.means - half, self.means + half

    def areas(self) -> Floats:
        """The area under each seed's curve over the items asked about, divided by their range: (n_seeds,)."""
        if len(self.n_asked) < 2:
            return np.asarray(self.values[:, 0])
        widths = np.diff(self.n_asked)
        middles = (self.values[:, 1:] + self.values[:, :-1]) / 2
        return np.asarray(middles @ widths / widths.sum())


@dataclass(frozen=True)
class Summary:
    """One curve in a line.

    Attributes:
        area: Mean area under its curve, with its 95 % interval.
        to_target: Items asked about until its mean curve reaches the target; None where it does not.
        wins: Seeds in which its area is above that of random with the same encoder and batch size, with `ties` and
            `losses`; all 0 without such a random to compare with.
    """

    curve: Curve
    area: float
    low: float
    high: float
    to_target: int | None
    wins: int
    ties: int
    losses: int


def summarise(curves: Sequence[Curve], target: float, baseline: str = "random") -> list[Summary]:
    """Every curve in a line, the largest area first.

    Args:
        target: Value of the figure that is to be reached.
    """
    bases = {curve.setting: curve.areas() for curve in curves if curve.mix == baseline}
    found = []
    for curve in curves:
        areas = curve.areas()
        low, high = Curve(curve.mix, np.zeros(1, np.int64), areas[:, None]).intervals()
        reached = np.flatnonzero(curve.means >= target)
        base = bases.get(curve.setting)
        better = areas - base if base is not None and curve.mix != baseline else np.full(len(areas), np.nan)
        found.append(
            Summary(
                curve,
                float(np.nanmean(areas)),
                float(low[0]),
                float(high[0]),
                int(curve.n_asked[reached[0]]) if len(reached) else None,
                int(np.sum(better > TIE)),
                int(np.sum(np.abs(better) <= TIE)),
                int(np.sum(better < -TIE)),
            )
        )
    return sorted(found, key=lambda summary: -summary.area)
