"""List the models with their metrics, promote one by hand, and roll back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from storage.errors import ModelError
from storage.lake.models import all_models, decisions, measured_on, metrics_of, model_before, production_model, promote
from storage.records import DecidedBy, Decision, Metric, ModelStatus, Split
from storage.upkeep.erasure import unreproducible_models
from tasks.project import Project

FIGURES = ("f1", "auc", "ap")


@dataclass(frozen=True)
class ModelRow:
    """A model with its newest metrics and the last decision about it.

    Attributes:
        n_measured: Number of evaluation items of the metrics; 0 if it was never measured.
        reproducible: False if a text that it was trained on was erased.
    """

    model_id: str
    status: ModelStatus
    created_at: datetime
    n_training: int
    n_measured: int
    figures: dict[str, Metric]
    decision: Decision | None
    reproducible: bool = True


def model_rows(project: Project) -> list[ModelRow]:
    """Every model, the newest first."""
    store = project.store
    last: dict[str, Decision] = {}
    unreproducible = unreproducible_models(store)
    for decision in decisions(store):
        last.setdefault(decision.model_id, decision)
    return [
        ModelRow(
            model.model_id,
            model.status,
            model.created_at,
            model.n_training,
            measured_on(store, model.model_id, Split.EVALUATION),
            metrics_of(store, model.model_id, Split.EVALUATION),
            last.get(model.model_id),
            model.model_id not in unreproducible,
        )
        for model in all_models(store)
    ]


def models_text(rows: list[ModelRow], most: int | None = 15) -> str:
    """A table of the models, followed by the decisions about the production model and the newest one."""
    if not rows:
        return "No model yet. The first is trained once there are enough labels: pal next"
    newest = rows if most is None else rows[:most]
    lines = [f"{'':<2}{'model':<19}{'labels':>7}  {'F1':<22}{'AUC':<22}{'AP':<22}{'items':>6}  made"]
    for row in newest:
        mark = "*" if row.status is ModelStatus.PRODUCTION else ""
        figures = "".join(f"{_figure(row.figures.get(name)):<22}" for name in FIGURES)
        day = f"{row.created_at:%Y-%m-%d}"
        erased = "" if row.reproducible else "  not reproducible: texts erased"
        lines.append(f"{mark:<2}{row.model_id:<19}{row.n_training:>7,}  {figures}{row.n_measured:>6,}  {day}{erased}")
    if len(newest) < len(rows):
        lines.append(f"  and {len(rows) - len(newest)} older ones: pal models --all")
    lines.append("(* in production; metrics with 95% intervals on so many evaluation items; times in UTC)")
    for row in rows:
        if row.decision and (row.status is ModelStatus.PRODUCTION or row is rows[0]):
            lines.append(f"\n{row.model_id}: {decision_text(row.decision)}")
    return "\n".join(lines)


def decision_text(decision: Decision) -> str:
    """A decision in a sentence."""
    by = {DecidedBy.GATE: "the promotion gate", DecidedBy.PERSON: "a person", DecidedBy.ROLLBACK: "a rollback"}
    done = "put into production" if decision.promoted else "kept out"
    return f"{done} by {by[decision.decided_by]} on {decision.decided_at:%Y-%m-%d %H:%M} UTC: {decision.reason}"


def promote_by_hand(project: Project, model_id: str, reason: str) -> Decision:
    """Promote a model regardless of the promotion gate.

    Args:
        model_id: Its id, or a unique prefix.

    Raises:
        ModelError: The model does not exist, does not fit pal.toml, or is damaged.
    """
    store = project.store
    whole_id = _found([model.model_id for model in all_models(store)], model_id)
    _check(project, whole_id)
    return promote(store, whole_id, decided_by=DecidedBy.PERSON, reason=reason)


def roll_back(project: Project) -> Decision:
    """Promote the model that was in production before the current one.

    Raises:
        ModelError: There was none, or it can no longer be used.
    """
    store = project.store
    current, before = production_model(store), model_before(store)
    _check(project, before)
    reason = f"in place of {current.model_id}" if current else ""
    return promote(store, before, decided_by=DecidedBy.ROLLBACK, reason=reason)


def _check(project: Project, model_id: str) -> None:
    from tasks.prepare import open_model

    open_model(project, model_id)


def _found(model_ids: list[str], model_id: str) -> str:
    matching = [candidate for candidate in model_ids if candidate.startswith(model_id)]
    if model_id in model_ids or len(matching) == 1:
        return model_id if model_id in model_ids else matching[0]
    near = matching or get_close_matches(model_id, model_ids, n=3, cutoff=0.4) or model_ids[:3]
    problem = f"{len(matching)} models begin with {model_id!r}" if matching else f"There is no model {model_id!r}"
    raise ModelError(f"{problem}.", hint=f"Name a model: {', '.join(near)}." if near else "Train a model: pal next")


def _figure(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "-"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
