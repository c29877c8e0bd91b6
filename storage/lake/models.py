"""Models in the lake: their training versions, metrics, promotions and learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from storage.errors import ModelError
from storage.lake.connection import bound, listed
from storage.lake.schema import current_labels
from storage.lake.store import Connection, Store, in_utc, records_of
from storage.records import SUCCESSIVE, DecidedBy, Decision, Metric, Model, ModelStatus, Split

_COLUMNS = "model_id, created_at, lake_version, n_training, encoder_id, config, weights_hash, status"


def add_model(store: Store, model: Model) -> bool:
    """Record a model whose files are on disk; returns False if it was recorded already."""

    def change(connection: Connection) -> bool:
        if connection.execute(bound("FROM lake.models WHERE model_id = ?", [model.model_id])).fetchone():
            return False
        connection.execute(
            bound(
                f"INSERT INTO lake.models ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    model.model_id,
                    in_utc(model.created_at),
                    model.lake_version,
                    model.n_training,
                    model.encoder_id,
                    model.config,
                    model.weights_hash,
                    model.status.value,
                ],
            ),
        )
        return True

    return store.write(change, f"model {model.model_id}")


def promote(
    store: Store, model_id: str, *, decided_by: DecidedBy = DecidedBy.PERSON, reason: str = "requested"
) -> Decision:
    """Promote a model, retire the previous production model and record the reason, in one transaction.

    For the production model, this changes nothing.

    Raises:
        ModelError: There is no such model; the production model stays.
    """
    verdict = Verdict(model_id, True, decided_by, reason)
    return store.write(lambda connection: _decide(connection, verdict), f"promote {model_id}")


@dataclass(frozen=True)
class Measurement:
    """Metrics of a model on `n` items of a split (or SUCCESSIVE), as of a lake version."""

    model_id: str
    split: str
    metrics: Sequence[Metric]
    n: int
    lake_version: int


@dataclass(frozen=True)
class Verdict:
    """A decision on a candidate: whether it is promoted, by whom, and why."""

    model_id: str
    promoted: bool
    decided_by: DecidedBy
    reason: str


def record_verdict(store: Store, verdict: Verdict | None, measurements: Sequence[Measurement]) -> None:
    """Record metrics and the decision based on them in one transaction.

    Metrics and decisions that are recorded already change nothing.

    Raises:
        ModelError: There is no such model; nothing is recorded.
    """

    new = [measurement for measurement in measurements if not _is_recorded(store, measurement)]

    def change(connection: Connection) -> None:
        for measurement in new:
            _measure(connection, measurement)
        if verdict is not None:
            _decide(connection, verdict)

    if new or verdict is not None:
        models = dict.fromkeys(measurement.model_id for measurement in measurements)
        store.write(change, f"metrics of {', '.join(models)}")


def model_before(store: Store) -> str:
    """The previous production model, to which a rollback returns.

    Raises:
        ModelError: There is none, or it is unknown.
    """
    current = production_model(store)
    promotions = [
        decision
        for decision in decisions(store)
        if current
        and decision.model_id == current.model_id
        and decision.promoted
        and decision.decided_by != DecidedBy.ROLLBACK
    ]
    if not promotions or promotions[0].previous_id is None:
        what = f"No model was in production before {current.model_id}." if current else "No model is in production."
        raise ModelError(what, hint="List the models (pal models), then run: pal promote MODEL")
    return promotions[0].previous_id


def taken_back(store: Store, model_id: str) -> Decision | None:
    """The decision by which a person rolled back a model, unless it was promoted again; else None."""
    for decision in decisions(store):
        if decision.model_id == model_id and decision.promoted:
            return None
        if decision.previous_id == model_id and decision.decided_by == DecidedBy.ROLLBACK:
            return decision
    return None


def decisions(store: Store) -> list[Decision]:
    """All decisions on models, newest first."""
    return store.records(Decision, f"{_DECISIONS} ORDER BY decided_at DESC")


def all_models(store: Store) -> list[Model]:
    """All models, newest first."""
    return _models(store, "ORDER BY created_at DESC, model_id")


def find_model(store: Store, model_id: str) -> Model | None:
    """One model; None if there is none with this id."""
    return _first(store, "WHERE model_id = ?", [model_id])


def production_model(store: Store) -> Model | None:
    """The production model; None if none was promoted yet."""
    return _first(store, "WHERE status = 'production' ORDER BY created_at DESC LIMIT 1")


def add_metrics(
    store: Store, model_id: str, split: str, metrics: Sequence[Metric], *, n: int, lake_version: int
) -> None:
    """Append the metrics of a model on `n` items of a split (or SUCCESSIVE), as of a lake version."""
    measurement = Measurement(model_id, split, metrics, n, lake_version)
    store.write(lambda connection: _measure(connection, measurement), f"metrics of {model_id}: {split}")


def _measure(connection: Connection, measurement: Measurement) -> None:
    columns = {"name": "VARCHAR", "value": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE", "reason": "VARCHAR"}
    rows = listed([asdict(metric) for metric in measurement.metrics], columns)
    now = datetime.now(UTC).replace(tzinfo=None)
    facts = [measurement.model_id, str(measurement.split), measurement.n, measurement.lake_version, now]
    columns_sql = bound("SELECT ?, ?, name, value, low, high, reason, ?, ?, ?", facts)
    connection.execute(f"INSERT INTO lake.metrics {columns_sql} FROM ({rows})")


def _is_recorded(store: Store, measurement: Measurement) -> bool:
    """Whether a model's newest metrics on this split are the same, on the same number of items."""
    newest = metrics_of(store, measurement.model_id, measurement.split)
    is_same = newest == {metric.name: metric for metric in measurement.metrics}
    return is_same and measured_on(store, measurement.model_id, measurement.split) == measurement.n


def metrics_of(store: Store, model_id: str, split: str) -> dict[str, Metric]:
    """The newest metrics of a model on a split (or SUCCESSIVE), by name; empty if there are none."""
    metrics = store.records(
        Metric,
        """FROM lake.metrics WHERE model_id = ? AND split = ?
        QUALIFY row_number() OVER (PARTITION BY name ORDER BY measured_at DESC) = 1 ORDER BY name""",
        [model_id, str(split)],
    )
    return {metric.name: metric for metric in metrics}


def measured_on(store: Store, model_id: str, split: str) -> int:
    """Number of items of a model's newest metrics on a split; 0 if there are none."""
    rows = store.rows(
        "SELECT n FROM lake.metrics WHERE model_id = ? AND split = ? ORDER BY measured_at DESC LIMIT 1",
        [model_id, str(split)],
    )
    return int(rows[0][0]) if rows else 0


def model_to_compare_with(store: Store, model_id: str, n_more: int) -> Model | None:
    """The newest earlier model with at least n_more fewer training items; None if there is none.

    Models before the last compared one are excluded, so that comparisons never share labels.
    """
    return _first(
        store,
        """WHERE created_at < (SELECT created_at FROM lake.models WHERE model_id = $model_id)
        AND n_training + $n_more <= (SELECT n_training FROM lake.models WHERE model_id = $model_id)
        AND created_at >= (SELECT coalesce(max(created_at), TIMESTAMP '1970-01-01') FROM lake.models
            WHERE model_id IN (SELECT model_id FROM lake.metrics WHERE split = $successive)
            AND created_at < (SELECT created_at FROM lake.models WHERE model_id = $model_id))
        ORDER BY created_at DESC, model_id LIMIT 1""",
        {"model_id": model_id, "n_more": n_more, "successive": SUCCESSIVE},
    )


def recent_values(store: Store, split: str, names: Sequence[str], n: int) -> list[list[float | None]]:
    """For each metric its values of the n newest models that have it, newest first; None if it is undefined."""
    rows = store.rows(
        """SELECT name, arg_max(struct_pack(v := value), measured_at).v
        FROM lake.metrics JOIN lake.models USING (model_id) WHERE split = $split AND name IN (SELECT unnest($names))
        GROUP BY name, model_id, created_at ORDER BY created_at DESC, model_id""",
        {"split": split, "names": list(names)},
    )
    return [[value for name, value in rows if name == metric][:n] for metric in names]


def _decide(connection: Connection, verdict: Verdict) -> Decision:
    model_id = verdict.model_id
    if not connection.execute(bound("FROM lake.models WHERE model_id = ?", [model_id])).fetchone():
        raise ModelError(f"The lake has no model {model_id!r}.", hint="List the models: pal models")
    current = connection.execute("SELECT model_id FROM lake.models WHERE status = 'production'").fetchone()
    now = datetime.now(UTC).replace(tzinfo=None)
    previous_id = current[0] if current else None
    decision = Decision(model_id, previous_id, verdict.promoted, verdict.decided_by, verdict.reason, now)
    newest = records_of(connection, Decision, f"{_DECISIONS} ORDER BY decided_at DESC LIMIT 1")
    is_known = bool(newest) and replace(newest[0], decided_at=now) == decision
    if is_known or (verdict.promoted and previous_id == model_id):
        return decision
    facts = [model_id, previous_id, int(verdict.promoted), verdict.decided_by.value, verdict.reason, now]
    connection.execute(bound("INSERT INTO lake.decisions VALUES (?, ?, ?, ?, ?, ?)", facts))
    if verdict.promoted:
        retire = "UPDATE lake.models SET status = 'retired' WHERE status = 'production' AND model_id <> ?"
        connection.execute(bound(retire, [model_id]))
        connection.execute(bound("UPDATE lake.models SET status = 'production' WHERE model_id = ?", [model_id]))
    return decision


_DECISIONS = "FROM lake.decisions"


def _first(store: Store, clause: str, parameters: list[Any] | dict[str, Any] | None = None) -> Model | None:
    models = _models(store, clause, parameters)
    return models[0] if models else None


def _models(store: Store, clause: str, parameters: list[Any] | dict[str, Any] | None = None) -> list[Model]:
    return store.records(Model, f"FROM lake.models {clause}", parameters)


@dataclass(frozen=True)
class CurvePoint:
    """A model's metrics on the evaluation items.

    Attributes:
        n_training: Number of training labels.
        n_measured: Number of evaluation items.
        figures: The newest metrics by name.
    """

    model_id: str
    status: ModelStatus
    created_at: datetime
    n_training: int
    n_measured: int
    figures: dict[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategyResult:
    """Labels of a strategy's proposals in a batch; an item counts for each strategy that proposed it."""

    batch_id: str
    strategy: str
    n_labelled: int
    n_positive: int


def learning_curve(store: Store) -> list[CurvePoint]:
    """All models with metrics on evaluation items, oldest first."""
    rows = store.records(
        _CurveRow,
        """SELECT model_id, status, created_at, n_training, m.n AS n_measured, name, value, low, high, reason
        FROM lake.models JOIN lake.metrics m USING (model_id) WHERE split = ?
        QUALIFY row_number() OVER (PARTITION BY model_id, name ORDER BY measured_at DESC) = 1
        ORDER BY created_at, model_id, name""",
        [Split.EVALUATION.value],
    )
    points: dict[str, CurvePoint] = {}
    for row in rows:
        points.setdefault(row.point.model_id, row.point).figures[row.metric.name] = row.metric
    return list(points.values())


@dataclass(frozen=True)
class _CurveRow:
    """One metric of a model, with the model."""

    point: CurvePoint
    metric: Metric


def strategy_results(store: Store, positive: str) -> list[StrategyResult]:
    """The results of each strategy's proposals in training batches, by batch and strategy, oldest batch first.

    Args:
        positive: The positive label.
    """
    return store.records(
        StrategyResult,
        f"""SELECT batch_id, strategy, count(label) AS n_labelled, count(*) FILTER (label = $positive) AS n_positive
        FROM (SELECT DISTINCT batch_id, strategy, item_id FROM lake.batch_items)
        JOIN lake.batches b USING (batch_id) JOIN ({current_labels()}) USING (item_id)
        WHERE purpose = 'training' AND split = 'training' AND label IS NOT NULL
        GROUP BY batch_id, strategy ORDER BY any_value(b.created_at), batch_id, strategy""",
        {"positive": positive},
    )
