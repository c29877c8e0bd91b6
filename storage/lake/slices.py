"""Slices of the texts by time of import: the texts imported between two batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.lake.context import among
from storage.lake.schema import RANK, current_labels
from storage.lake.store import Store
from storage.records import WeightedShare

LEAST_ITEMS = 10
"""Evaluation items of a slice that is weighted by itself; one with fewer is counted together with the next."""


@dataclass(frozen=True)
class ImportSlice:
    """The texts that were imported between two batches drawn from the pool; the first: all before the first batch.

    Attributes:
        number: Batches that were drawn before.
        imports: When each of its imports was (UTC), the oldest first.
        n: Its items.
        is_open: No batch was drawn since.
        refresh_below: Its items of ranks below this were left to the evaluation reserve when the next batch was drawn;
            0 for none.
    """

    number: int
    imports: tuple[datetime, ...]
    n: int
    is_open: bool
    refresh_below: int


def import_slices(store: Store, where: str = "") -> list[ImportSlice]:
    """The slices of all items, the oldest first.

    Args:
        where: Condition on the columns of the items that count.
    """
    imports = store.rows(
        f"SELECT imported_at, count(*) FROM lake.items WHERE {among(where)} GROUP BY imported_at ORDER BY imported_at"
    )
    draws = store.rows(
        r"""SELECT created_at, coalesce((shares->'$[0].options.refresh_below')::BIGINT, 0) FROM lake.batches
        WHERE regexp_matches(batch_id, '^b\d+-') AND purpose NOT IN ('adjudication', 'review') ORDER BY created_at"""
    )
    found: dict[int, list[tuple[datetime, int]]] = {}
    number = 0
    for imported_at, n in imports:
        while number < len(draws) and draws[number][0] < imported_at:
            number += 1
        found.setdefault(number, []).append((imported_at, n))
    return [
        ImportSlice(
            number,
            tuple(imported_at for imported_at, _ in rows),
            sum(n for _, n in rows),
            number == len(draws),
            0 if number == len(draws) else draws[number][1],
        )
        for number, rows in found.items()
    ]


@dataclass(frozen=True)
class SlicedItems:
    """Items by the slice of imports that they came with.

    Attributes:
        slices: All slices, the oldest first.
        at: Of each item the place of its slice among these.
        weights: What each item counts, 1 on average, so that each slice counts by its size; None where all count 1.
    """

    slices: tuple[ImportSlice, ...]
    at: tuple[int, ...]
    weights: tuple[float, ...] | None


def by_slice(store: Store, item_ids: Sequence[str], where: str = "") -> SlicedItems | None:
    """The slices of labelled evaluation items; None where there is one slice.

    Items of the evaluation reserve are weighted: of each slice those of the lowest ranks are asked, of a small one a
    larger part. Other evaluation items (imported, or of batches for evaluation alone) count 1.

    Args:
        where: Condition on the columns of the items that a slice's size counts.
    """
    slices = import_slices(store, where)
    if len(slices) < 2:
        return None
    place = {imported_at: k for k, each in enumerate(slices) for imported_at in each.imports}
    rows = store.rows(
        """SELECT item_id, imported_at, item_id IN (SELECT item_id FROM lake.batch_items WHERE split = 'evaluation')
        FROM lake.items WHERE item_id IN (SELECT unnest($ids))""",
        {"ids": list(item_ids)},
    )
    # An item that `where` leaves out by now can be of a slice that has no other; one that was erased has none.
    found = {item_id: (place.get(imported_at, 0), reserved) for item_id, imported_at, reserved in rows}
    at, reserved = zip(*(found.get(item_id, (0, False)) for item_id in item_ids), strict=True) if item_ids else ((), ())
    counts = [0] * len(slices)
    for k, is_reserved in zip(at, reserved, strict=True):
        counts[k] += is_reserved
    weights = slice_weights([each.n for each in slices], counts)
    if weights is None:
        return SlicedItems(tuple(slices), at, None)
    each_weight = tuple(weights[k] if is_reserved else 1.0 for k, is_reserved in zip(at, reserved, strict=True))
    return SlicedItems(tuple(slices), at, each_weight)


def slice_weights(sizes: Sequence[int], counts: Sequence[int]) -> list[float] | None:
    """What an item of each slice counts, so that slices count by their sizes and all items 1 on average.

    Slices with fewer than `LEAST_ITEMS` items are counted together with the next; the newest, while they have fewer,
    add nothing to the size of those before. None where one group is left.

    Args:
        sizes: Texts of each slice, the oldest first.
        counts: Labelled evaluation items of each.

    >>> slice_weights([9000, 1000], [50, 50])
    [1.8, 0.2]
    >>> slice_weights([9000, 1000], [50, 9]) is None
    True
    """
    groups: list[tuple[int, int]] = []
    group_of = []
    for size, n in zip(sizes, counts, strict=True):
        if groups and groups[-1][1] < LEAST_ITEMS:
            groups[-1] = (groups[-1][0] + size, groups[-1][1] + n)
        else:
            groups.append((size, n))
        group_of.append(len(groups) - 1)
    if len(groups) > 1 and groups[-1][1] < LEAST_ITEMS:
        _, n = groups.pop()
        groups[-1] = (groups[-1][0], groups[-1][1] + n)
    if len(groups) < 2:
        return None
    rate = sum(n for _, n in groups) / sum(size for size, _ in groups)
    weights = [rate * size / n for size, n in groups]
    return [weights[min(k, len(weights) - 1)] for k in group_of]


def weighted_share(store: Store, label: str) -> WeightedShare | None:
    """How many of all texts have a label, by the evaluation reserve; None where all its items count alike."""
    if len(import_slices(store)) < 2:
        return None
    rows = store.rows(
        f"""SELECT item_id, label = ? FROM ({current_labels()}) SEMI JOIN lake.items USING (item_id)
        WHERE split = 'evaluation' AND label IS NOT NULL AND item_id IN (
            SELECT item_id FROM lake.batch_items WHERE split = 'evaluation')""",
        [label],
    )
    sliced = by_slice(store, [item_id for item_id, _ in rows])
    if sliced is None or sliced.weights is None:
        return None
    total, squares = sum(sliced.weights), sum(weight**2 for weight in sliced.weights)
    positive = sum(weight for weight, (_, has_it) in zip(sliced.weights, rows, strict=True) if has_it)
    return WeightedShare(positive / total, total**2 / squares)


@dataclass(frozen=True)
class RecentTexts:
    """Random samples of the texts imported between two times (UTC), and of all earlier texts."""

    since: datetime
    until: datetime
    old: list[str]
    new: list[str]


def recent_texts(store: Store, least: int, most: int) -> RecentTexts | None:
    """Sample the newest imports with together at least `least` texts, and the older ones; None if these have fewer.

    Args:
        most: Maximum size of a sample: the texts of the lowest ranks, so that every call gives the same.
    """
    since, until = store.rows(
        """SELECT max(imported_at), (SELECT max(imported_at) FROM lake.items) FROM (
            SELECT imported_at, sum(count(*)) OVER (ORDER BY imported_at DESC) AS n_new, sum(count(*)) OVER () AS n
            FROM lake.items GROUP BY imported_at)
        WHERE n_new >= $least AND n - n_new >= $least""",
        {"least": least},
    )[0]
    if since is None:
        return None
    samples: dict[bool, list[str]] = {False: [], True: []}
    for is_new, text in store.rows(
        f"""SELECT imported_at >= $since AS is_new, text FROM lake.items
        QUALIFY row_number() OVER (PARTITION BY is_new ORDER BY {RANK}, item_id) <= $most ORDER BY {RANK}, item_id""",
        {"since": since, "most": most},
    ):
        samples[is_new].append(text)
    return RecentTexts(since, until, samples[False], samples[True])
