"""What the next batch is for, from how many labels there are; and whether more labels would change much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annotation.label_set import LabelSet
from storage.lake.batches import batch_results
from storage.lake.items import count_items_and_pool
from storage.lake.models import recent_values
from storage.lake.store import Store
from storage.records import SUCCESSIVE, Split, StopSign
from tasks.learning.stopping import WINDOW, Findings, stop_signs

UNBIASED = ("random",)
"""The strategies whose items are a fair sample of the pool."""
TOLERATED_SHORTFALL = 0.01
"""Share of a minimum that may be missing: a few skipped, unsure or doubled items are no reason for a batch."""


@dataclass(frozen=True)
class Minimums:
    """How many labelled items each split needs before active learning begins."""

    evaluation: int
    validation: int
    training: int


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

    >>> next_batch_plan({}, Minimums(1200, 200, 100), 100).purpose.value
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


def signs_of(store: Store, label_set: LabelSet, counts: tuple[int, int] | None = None) -> tuple[StopSign, ...]:
    """The stop signs as of now.

    Args:
        counts: How many items there are, and how many of them in the pool; counted where None.
    """
    n_items, n_pool = counts or count_items_and_pool(store)
    findings = Findings(
        kappas=recent_values(store, SUCCESSIVE, "kappa", WINDOW),
        changes=recent_values(store, SUCCESSIVE, "change_of_f", WINDOW),
        results=batch_results(store, UNBIASED, label_set.positive or ""),
        n_items=n_items,
        n_pool=n_pool,
    )
    return stop_signs(findings, has_positive=label_set.positive is not None)
