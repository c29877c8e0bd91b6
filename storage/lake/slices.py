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
        number: Number of batches drawn before it.
        imports: Times of its imports (UTC), oldest first.
        n: Number of its items.
        is_open: Whether no batch was drawn since.
        refresh_below: The rank below which its items joined the evaluation reserve when the next batch was drawn; 0 if
            none did.
    """

    number: int
    imports: tuple[datetime, ...]
    n: int
    is_open: bool
    refresh_below: int


def import_slices(store: Store, where: str = "") -> list[ImportSlice]:
    """Return the slices of all items, oldest first.

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
    imports_of: dict[int, list[tuple[datetime, int]]] = {}
    number = 0
    for imported_at, n in imports:
        while number < len(draws) and draws[number][0] < imported_at:
            number += 1
        imports_of.setdefault(number, []).append((imported_at, n))
    return [
        ImportSlice(
            number,
            tuple(imported_at for imported_at, _ in rows),
            sum(n for _, n in rows),
            number == len(draws),
            0 if number == len(draws) else draws[number][1],
        )
        for number, rows in imports_of.items()
    ]


@dataclass(frozen=True)
class SlicedItems:
    """Items by the slice of imports that they came with.

    Attributes:
        slices: All slices, oldest first.
        at: Index in `slices` of each item's slice.
        weights: Weight of each item, 1 on average, so that slices count by their size; None if all weights are 1.
    """

    slices: tuple[ImportSlice, ...]
    at: tuple[int, ...]
    weights: tuple[float, ...] | None


def by_slice(store: Store, item_ids: Sequence[str], where: str = "") -> SlicedItems | None:
    """Return the slices and weights of labeled evaluation items; None if there is only one slice.

    Items of the evaluation reserve are weighted, since it takes a larger fraction of small slices. Other evaluation
    items (imported, or from evaluation batches) have weight 1.

    Args:
        where: Condition on the columns of the items that count toward the size of a slice.
    """
    slices = import_slices(store, where)
    if len(slices) < 2:
        return None
    index_of = {imported_at: k for k, part in enumerate(slices) for imported_at in part.imports}
    rows = store.rows(
        """SELECT item_id, imported_at, item_id IN (SELECT item_id FROM lake.batch_items WHERE split = 'evaluation')
        FROM lake.items WHERE item_id IN (SELECT unnest($ids))""",
        {"ids": list(item_ids)},
    )
    # A slice may be missing if `where` now excludes all its items, and an erased item has none.
    slice_of = {item_id: (index_of.get(imported_at, 0), reserved) for item_id, imported_at, reserved in rows}
    at, reserved = (
        zip(*(slice_of.get(item_id, (0, False)) for item_id in item_ids), strict=True) if item_ids else ((), ())
    )
    counts = [0] * len(slices)
    for k, is_reserved in zip(at, reserved, strict=True):
        counts[k] += is_reserved
    weights = slice_weights([part.n for part in slices], counts)
    if weights is None:
        return SlicedItems(tuple(slices), at, None)
    item_weights = tuple(weights[k] if is_reserved else 1.0 for k, is_reserved in zip(at, reserved, strict=True))
    return SlicedItems(tuple(slices), at, item_weights)


def slice_weights(sizes: Sequence[int], counts: Sequence[int]) -> list[float] | None:
    """Compute the weight of an item of each slice, so that slices count by their size and the mean weight is 1.

    A slice with fewer than `LEAST_ITEMS` evaluation items is joined with the next. Texts of the newest slices do not
    count while they have fewer. Returns None if one group remains.

    Args:
        sizes: Number of texts of each slice, oldest first.
        counts: Number of labeled evaluation items of each.

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
    """Random samples of the texts imported between two times (UTC), and of all earlier texts.

    Attributes:
        old_times: When each text of `old` was imported.
    """

    since: datetime
    until: datetime
    old: list[str]
    new: list[str]
    old_times: list[datetime]


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
    old_times = []
    for is_new, text, imported_at in store.rows(
        f"""SELECT imported_at >= $since AS is_new, text, imported_at FROM lake.items
        QUALIFY row_number() OVER (PARTITION BY is_new ORDER BY {RANK}, item_id) <= $most ORDER BY {RANK}, item_id""",
        {"since": since, "most": most},
    ):
        samples[is_new].append(text)
        if not is_new:
            old_times.append(imported_at)
    return RecentTexts(since, until, samples[False], samples[True], old_times)


@dataclass(frozen=True)
class EarlierTexts:
    """A random sample of the texts imported from `since` to `until` (UTC)."""

    since: datetime
    until: datetime
    texts: list[str]


def earlier_texts(store: Store, before: datetime, size: int, most: int) -> list[EarlierTexts]:
    """Sample the last imports before a time, newest first; an import with fewer texts is joined with those before it.

    Args:
        size: Number of texts of each sample.
        most: Maximum number of samples.
    """
    spans: list[EarlierTexts] = []
    until, n = before, 0
    for imported_at, count in store.rows(
        """SELECT imported_at, count(*) FROM lake.items WHERE imported_at < $before
        GROUP BY imported_at ORDER BY imported_at DESC""",
        {"before": before},
    ):
        until, n = (until if n else imported_at), n + count
        if n >= size and len(spans) < most:
            spans.append(EarlierTexts(imported_at, until, []))
            n = 0
    if not spans:
        return []
    starts, ends = [span.since.isoformat(" ") for span in spans], [span.until.isoformat(" ") for span in spans]
    for k, text in store.rows(
        f"""SELECT k, text FROM lake.items JOIN (SELECT unnest($starts)::TIMESTAMP AS since,
            unnest($ends)::TIMESTAMP AS until, unnest(range(len($starts))) AS k) ON imported_at BETWEEN since AND until
        QUALIFY row_number() OVER (PARTITION BY k ORDER BY {RANK}, item_id) <= $size ORDER BY {RANK}, item_id""",
        {"starts": starts, "ends": ends, "size": size},
    ):
        spans[k].texts.append(text)
    return spans
