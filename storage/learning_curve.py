"""What labels brought: the figures of each model beside its number of labels, and what each strategy found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.lake.schema import current_labels
from storage.lake.store import Store
from storage.records import Metric, ModelStatus, Split


@dataclass(frozen=True)
class CurvePoint:
    """A model on the evaluation items.

    Attributes:
        n_training: Labels it was trained on.
        n_measured: Evaluation items its figures are of.
        figures: By name, the newest.
    """

    model_id: str
    status: ModelStatus
    created_at: datetime
    n_training: int
    n_measured: int
    figures: dict[str, Metric]


@dataclass(frozen=True)
class StrategyResult:
    """What a strategy's proposals in a batch turned out to be; an item counts for each strategy that proposed it."""

    batch_id: str
    strategy: str
    n_labelled: int
    n_positive: int


def learning_curve(store: Store) -> list[CurvePoint]:
    """Every model that was measured on evaluation items, the oldest first."""
    rows = store.rows(
        """SELECT model_id, status, created_at, n_training, m.n, name, value, low, high, reason
        FROM lake.models JOIN lake.metrics m USING (model_id) WHERE split = ?
        QUALIFY row_number() OVER (PARTITION BY model_id, name ORDER BY measured_at DESC) = 1
        ORDER BY created_at, model_id, name""",
        [Split.EVALUATION.value],
    )
    points: dict[str, CurvePoint] = {}
    for model_id, status, created_at, n_training, n, *metric in rows:
        point = points.setdefault(model_id, CurvePoint(model_id, ModelStatus(status), created_at, n_training, n, {}))
        point.figures[metric[0]] = Metric(*metric)
    return list(points.values())


def strategy_results(store: Store, positive: str) -> list[StrategyResult]:
    """What came of each strategy's proposals in the training batches, by batch and strategy, the oldest batch first.

    Args:
        positive: The label that is looked for.
    """
    rows = store.rows(
        f"""SELECT batch_id, strategy, count(label), count(*) FILTER (label = $positive)
        FROM (SELECT DISTINCT batch_id, strategy, item_id FROM lake.batch_items)
        JOIN lake.batches b USING (batch_id) JOIN ({current_labels()}) USING (item_id)
        WHERE purpose = 'training' AND label IS NOT NULL
        GROUP BY batch_id, strategy ORDER BY any_value(b.created_at), batch_id, strategy""",
        {"positive": positive},
    )
    return [StrategyResult(*row) for row in rows]
