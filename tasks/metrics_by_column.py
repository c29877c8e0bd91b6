"""Metrics of a model on parts of the evaluation items: one part for each value of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from storage.lake.context import column_sql
from storage.lake.store import Store
from tasks.evaluate import HeldOut
from tasks.learning.metrics import evaluate
from tasks.learning.model_files import LoadedModel
from tasks.reporting.report_page import Slice

MOST_VALUES = 12
"""The rarer values of a column are one part."""
METRICS = ("f1", "ap", "accuracy")


def slices_of(
    store: Store, columns: Sequence[str], item_ids: Sequence[str], model: LoadedModel, held_out: HeldOut
) -> list[Slice]:
    """A slice for each value of each column, the largest first; items without one are `(none)`.

    Args:
        item_ids: Of the items of `held_out`, in its order.
    """
    found = []
    for column in columns:
        sql = f"SELECT item_id, {column_sql(column)} FROM lake.items WHERE item_id IN (SELECT unnest($ids))"
        values = dict(store.rows(sql, {"ids": list(item_ids)}))
        of = ["(none)" if values.get(item_id) is None else str(values[item_id]) for item_id in item_ids]
        frequent = [value for value, _ in Counter(of).most_common(MOST_VALUES)]
        rest = [value if value in frequent else "(others)" for value in of]
        for value in dict.fromkeys([*frequent, *rest]):
            at = np.flatnonzero(np.array(rest, dtype=object) == value)
            measured = evaluate(held_out.probabilities[at], held_out.labels[at], model.labels, model.calibration)
            metrics = tuple(each for name in METRICS for each in measured.metrics if each.name == name)
            found.append(Slice(column, value, len(at), metrics))
    return found
