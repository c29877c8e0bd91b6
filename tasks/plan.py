"""What the next batch is for: the original's state machine, from how many labels there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.records import Split

TOLERATED_SHORTFALL = 0.01
"""Share of a minimum that may be missing: a few skipped, unsure or doubled items are no reason for a batch."""


@dataclass(frozen=True)
class Minimums:
    """How many labelled items each split needs before active learning begins."""

    evaluation: int = 1200
    validation: int = 200
    training: int = 100


@dataclass(frozen=True)
class Plan:
    """The next batch: for which split, how many items, and whether a model chooses them."""

    purpose: Split
    n: int
    active: bool


def next_batch_plan(
    counts: Mapping[Split, Mapping[str, int]],
    minimums: Minimums,
    batch_size: int,
    pending: Mapping[Split, int] | None = None,
) -> Plan:
    """Held-out items first, then random training items, then active learning.

    Args:
        counts: Split -> label -> labelled items.
        pending: Split -> items that are out with annotators; they count as if they were labelled.
        batch_size: Of an active batch, and of a random one where the training items have one label only.

    >>> next_batch_plan({}, Minimums(), 100).purpose.value
    'evaluation'
    """
    for split, missing in _missing(counts, minimums, pending or {}).items():
        if missing:
            return Plan(split, missing, active=False)
    several = sum(n > 0 for n in counts.get(Split.TRAINING, {}).values()) > 1
    return Plan(Split.TRAINING, batch_size, active=several)


def fitting_minimums(minimums: Minimums, n_items: int) -> Minimums:
    """The minimums as they are; or, where they would use up every item there is, in proportion for half of the items.

    >>> fitting_minimums(Minimums(1200, 200, 100), 400)
    Minimums(evaluation=160, validation=26, training=13)
    """
    total = minimums.evaluation + minimums.validation + minimums.training
    if total < n_items or not n_items:
        return minimums
    share = n_items / 2 / total
    scaled = (int(each * share) for each in (minimums.evaluation, minimums.validation, minimums.training))
    return Minimums(*scaled)


def _missing(
    counts: Mapping[Split, Mapping[str, int]], minimums: Minimums, pending: Mapping[Split, int]
) -> dict[Split, int]:
    """Split -> items that a minimum still needs, in the order in which they are asked for."""
    found = {}
    for split in (Split.EVALUATION, Split.VALIDATION, Split.TRAINING):
        minimum: int = getattr(minimums, split.value)
        missing = minimum - sum(counts.get(split, {}).values()) - pending.get(split, 0)
        found[split] = missing if missing > TOLERATED_SHORTFALL * minimum else 0
    return found
