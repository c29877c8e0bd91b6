"""Whether more labels would change much: the stop signs that follow from the lake."""

from __future__ import annotations

from annotation.label_set import LabelSet
from storage.lake.batches import batch_results
from storage.lake.items import count_items_and_pool
from storage.lake.models import recent_values
from storage.lake.store import Store
from storage.records import SUCCESSIVE, StopSign
from tasks.learning.stopping import WINDOW, Findings, stop_signs
from tasks.sampling.sampling_config import UNBIASED


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
