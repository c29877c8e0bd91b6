"""Models in the lake: what each was trained on, its metrics, the production model, and the learning curve."""

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
    """Remember a model whose files are on disk; False where it was known already."""

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
    store: Store, model_id: str, *, decided_by: DecidedBy = DecidedBy.PERSON, reason: str = "asked for"
) -> Decision:
    """Put a model into production, retire the one that was, and remember why: one transaction.

    For the model that is in production already this changes nothing.

    Raises:
        ModelError: The lake knows no such model; the one in production stays.
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
    """What is to be decided on a candidate: promoted or kept out, by whom, and why."""

    model_id: str
    promoted: bool
    decided_by: DecidedBy
    reason: str


def record_verdict(store: Store, verdict: Verdict | None, measurements: Sequence[Measurement]) -> None:
    """Record metrics and the decision that followed from them in one transaction.

    Metrics that are recorded already, and a decision that was made already, change nothing.

    Raises:
        ModelError: The lake knows no such model; nothing is recorded.
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
    """The model that was in production before the one that is: what a rollback brings back.

    Raises:
        ModelError: There is none, or nothing says which it was.
    """
    current = production_model(store)
    promotions = [
        each
        for each in decisions(store)
        if current and each.model_id == current.model_id and each.promoted and each.decided_by != DecidedBy.ROLLBACK
    ]
    if not promotions or promotions[0].previous_id is None:
        which = f"before {current.model_id} no model was" if current else "no model is"
        raise ModelError(f"{which} in production.", hint="choose one: pal models; then: pal promote MODEL")
    return promotions[0].previous_id


def taken_back(store: Store, model_id: str) -> Decision | None:
    """The decision by which a person took a model out of production, where nobody put it back since."""
    for each in decisions(store):
        if each.model_id == model_id and each.promoted:
            return None
        if each.previous_id == model_id and each.decided_by == DecidedBy.ROLLBACK:
            return each
    return None


def decisions(store: Store) -> list[Decision]:
    """Everything that was decided on models, the newest first."""
    return store.records(Decision, f"{_DECISIONS} ORDER BY decided_at DESC")


def all_models(store: Store) -> list[Model]:
    """Every model there is, the newest first."""
    return _models(store, "ORDER BY created_at DESC, model_id")


def find_model(store: Store, model_id: str) -> Model | None:
    """One model; None where the lake knows none with this id."""
    return _first(store, "WHERE model_id = ?", [model_id])


def production_model(store: Store) -> Model | None:
    """The model in production; None where none was promoted yet."""
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
    chosen = bound("SELECT ?, ?, name, value, low, high, reason, ?, ?, ?", facts)
    connection.execute(f"INSERT INTO lake.metrics {chosen} FROM ({rows})")


def _is_recorded(store: Store, measurement: Measurement) -> bool:
    """Whether a model's newest metrics on this split are just these, on as many items."""
    newest = metrics_of(store, measurement.model_id, measurement.split)
    same = newest == {metric.name: metric for metric in measurement.metrics}
    return same and measured_on(store, measurement.model_id, measurement.split) == measurement.n


def metrics_of(store: Store, model_id: str, split: str) -> dict[str, Metric]:
    """The newest figures of a model on a split (or SUCCESSIVE), by name; empty where it was never measured."""
    metrics = store.records(
        Metric,
        """FROM lake.metrics WHERE model_id = ? AND split = ?
        QUALIFY row_number() OVER (PARTITION BY name ORDER BY measured_at DESC) = 1 ORDER BY name""",
        [model_id, str(split)],
    )
    return {metric.name: metric for metric in metrics}


def measured_on(store: Store, model_id: str, split: str) -> int:
    """Number of items that a model's newest figures on a split are of; 0 where it was never measured."""
    rows = store.rows(
        "SELECT n FROM lake.metrics WHERE model_id = ? AND split = ? ORDER BY measured_at DESC LIMIT 1",
        [model_id, str(split)],
    )
    return int(rows[0][0]) if rows else 0


def model_to_compare_with(store: Store, model_id: str, n_more: int) -> Model | None:
    """The newest earlier model with at least n_more fewer training items; None where there is none.

    None before the last one that was compared: so each comparison is over labels that no other one is over.
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


def recent_values(store: Store, split: str, name: str, n: int) -> list[float | None]:
    """A figure of the n newest models that have it, the newest first; None where it is undefined."""
    rows = store.rows(
        """SELECT arg_max(struct_pack(v := value), measured_at).v FROM lake.metrics JOIN lake.models USING (model_id)
        WHERE split = ? AND name = ? GROUP BY model_id, created_at ORDER BY created_at DESC, model_id LIMIT ?""",
        [split, name, n],
    )
    return [row[0] for row in rows]


def _decide(connection: Connection, verdict: Verdict) -> Decision:
    model_id = verdict.model_id
    if not connection.execute(bound("FROM lake.models WHERE model_id = ?", [model_id])).fetchone():
        raise ModelError(f"The lake has no model {model_id!r}.", hint="list the models: pal models")
    current = connection.execute("SELECT model_id FROM lake.models WHERE status = 'production'").fetchone()
    now = datetime.now(UTC).replace(tzinfo=None)
    previous_id = current[0] if current else None
    made = Decision(model_id, previous_id, verdict.promoted, verdict.decided_by, verdict.reason, now)
    last = records_of(connection, Decision, f"{_DECISIONS} ORDER BY decided_at DESC LIMIT 1")
    is_known = bool(last) and replace(last[0], decided_at=now) == made
    if is_known or (verdict.promoted and previous_id == model_id):
        return made
    facts = [model_id, previous_id, int(verdict.promoted), verdict.decided_by.value, verdict.reason, now]
    connection.execute(bound("INSERT INTO lake.decisions VALUES (?, ?, ?, ?, ?, ?)", facts))
    if verdict.promoted:
        retire = "UPDATE lake.models SET status = 'retired' WHERE status = 'production' AND model_id <> ?"
        connection.execute(bound(retire, [model_id]))
        connection.execute(bound("UPDATE lake.models SET status = 'production' WHERE model_id = ?", [model_id]))
    return made


_DECISIONS = "FROM lake.decisions"


def _first(store: Store, where: str, parameters: list[Any] | dict[str, Any] | None = None) -> Model | None:
    found = _models(store, where, parameters)
    return found[0] if found else None


def _models(store: Store, where: str, parameters: list[Any] | dict[str, Any] | None = None) -> list[Model]:
    return store.records(Model, f"FROM lake.models {where}", parameters)


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
    figures: dict[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategyResult:
    """What a strategy's proposals in a batch turned out to be; an item counts for each strategy that proposed it."""

    batch_id: str
    strategy: str
    n_labelled: int
    n_positive: int


def learning_curve(store: Store) -> list[CurvePoint]:
    """Every model that was measured on evaluation items, the oldest first."""
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
    """What came of each strategy's proposals in the training batches, by batch and strategy, the oldest batch first.

    Args:
        positive: The label that is looked for.
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
