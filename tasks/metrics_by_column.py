"""Metrics of a model on parts of the evaluation items: the slices of imports, and the values of columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from storage.lake.context import column_sql
from storage.lake.store import Store
from tasks.evaluate import HeldOut
from tasks.learning.metrics import evaluate
from tasks.learning.model_files import LoadedModel
from tasks.reporting.report_page import Slice

MOST_VALUES = 12
"""Maximum number of values of a column; rarer ones are combined."""
METRICS = ("f1", "ap", "accuracy")
IMPORTED = "imported"
"""In place of a column name for slices of imports; the value is the time of the first import."""


def slices_of(store: Store, columns: Sequence[str], model: LoadedModel, held_out: HeldOut) -> list[Slice]:
    """The slices of imports by time if there are several, then the values of each column by frequency.

    Items without a value are `(none)`.
    """
    item_ids = held_out.items["item_id"].to_pylist()
    parts: list[tuple[str, str, npt.NDArray[np.bool_]]] = []
    if held_out.sliced:
        places = np.array(held_out.sliced.at, np.int64)
        for k, part in enumerate(held_out.sliced.slices):
            parts.append((IMPORTED, f"{part.imports[0]:%Y-%m-%d %H:%M} UTC", places == k))
    for column in columns:
        sql = f"SELECT item_id, {column_sql(column)} FROM lake.items WHERE item_id IN (SELECT unnest($ids))"
        values = dict(store.rows(sql, {"ids": item_ids}))
        of = ["(none)" if values.get(item_id) is None else str(values[item_id]) for item_id in item_ids]
        frequent = [value for value, _ in Counter(of).most_common(MOST_VALUES)]
        rest = np.array([value if value in frequent else "(others)" for value in of], dtype=object)
        parts += [(column, value, rest == value) for value in dict.fromkeys([*frequent, *rest])]
    slices, weights = [], held_out.weights
    for column, value, within in parts:
        if not (at := np.flatnonzero(within)).size:
            continue
        measured = evaluate(
            held_out.probabilities[at],
            held_out.labels[at],
            model.labels,
            model.calibration,
            item_weights=weights[at] if weights is not None else None,
        )
        metrics = tuple(metric for name in METRICS for metric in measured.metrics if metric.name == name)
        slices.append(Slice(column, value, len(at), metrics))
    return slices
