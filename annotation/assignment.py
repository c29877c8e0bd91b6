"""Who is asked about which items of a batch, and which settled ones are mixed in to see how well each does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from storage.records import Assignment


def assign(
    item_ids: Sequence[str],
    annotators: Sequence[str],
    overlap: int,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]] | None = None,
) -> list[Assignment]:
    """Give every item to `overlap` annotators, such that all get as many items, give or take one.

    Args:
        item_ids: In the order in which each annotator is asked.
        annotators: At least `overlap`.
        answered: item_id -> who answered it before; they are asked again only where there are too few others.
    """
    load: Counter[str] = Counter()
    together: Counter[frozenset[str]] = Counter()
    found = []
    for item_id in item_ids:
        before = (answered or {}).get(item_id, ())
        chosen: list[str] = []
        for _ in range(overlap):
            left = [name for name in annotators if name not in chosen]
            ties = generator.random(len(left))
            ranks = [
                (name in before, load[name], sum(together[frozenset((name, other))] for other in chosen), tie)
                for name, tie in zip(left, ties, strict=True)
            ]
            chosen.append(left[ranks.index(min(ranks))])
        load.update(chosen)
        together.update(frozenset((a, b)) for k, a in enumerate(chosen) for b in chosen[:k])
        found += [Assignment(item_id, name) for name in annotators if name in chosen]
    return found


def with_gold(
    assignments: Sequence[Assignment],
    settled: Sequence[str],
    rate: float,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]],
) -> list[Assignment]:
    """The assignments with settled items among those of each annotator, at random places.

    Args:
        settled: Items with an adjudicated label, none of the batch's own.
        rate: Settled items for each item of an annotator's own, 0 to 1; rounded, so that few items may get none.
        answered: item_id -> who was asked about it before; nobody is asked again.
    """
    mine: dict[str, list[Assignment]] = {}
    for each in assignments:
        mine.setdefault(each.annotator, []).append(each)
    found = []
    for name, own in mine.items():
        fresh = [item_id for item_id in settled if name not in answered.get(item_id, ())]
        n = min(round(rate * len(own)), len(fresh))
        mixed: list[Assignment] = list(own)
        for at in generator.permutation(len(fresh))[:n]:
            mixed.insert(int(generator.integers(len(mixed) + 1)), Assignment(fresh[at], name, gold=True))
        found += mixed
    return found
