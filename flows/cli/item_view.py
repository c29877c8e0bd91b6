"""All that is known of an item, for `pal show`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flows.cli.annotating import history_text
from storage.lake.history import ItemHistory, history_of
from storage.lake.models import production_model
from storage.lake.schema import OUT, current_labels
from storage.lake.search import Scope
from storage.lake.store import Store
from tasks.find import Search, find_items
from tasks.predict_file import model_in_production
from tasks.project import Project

NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbour:
    """A similar item: the cosine of the two vectors, and its label, if any."""

    item_id: str
    text: str
    cosine: float
    label: str | None


@dataclass(frozen=True)
class ItemView:
    """An item with everything that is known of it.

    Attributes:
        context: The other columns of its row.
        out: The open batches that contain it.
        model_id: The production model, with its `probabilities` of each label; None and empty without a model.
    """

    history: ItemHistory
    context: dict[str, Any]
    out: list[str]
    model_id: str | None
    probabilities: dict[str, float]
    neighbours: list[Neighbour]


def item_view(project: Project, item_id: str) -> ItemView:
    """Load everything that is known of an item.

    Raises:
        BatchError: There is no such item.
    """
    store = project.store
    history = history_of(store, item_id)
    item_id = history.item_id
    context = store.rows("SELECT context FROM lake.items WHERE item_id = ?", [item_id])[0][0]
    out = store.rows(f"SELECT DISTINCT batch_id FROM ({OUT}) WHERE item_id = ? ORDER BY 1", [item_id])
    model_id, probabilities = None, {}
    if production_model(store) is not None:
        model = model_in_production(project)
        model_id = model.model_id
        probabilities = dict(zip(model.labels, map(float, model.predict([history.text])[0]), strict=True))
    hits = find_items(project, Search(like=item_id), Scope(everything=True), NEIGHBOURS)
    labels = _labels_of(store, [hit.item_id for hit in hits])
    neighbours = [Neighbour(hit.item_id, hit.text, hit.score, labels.get(hit.item_id)) for hit in hits]
    columns = json.loads(context) if context else {}
    return ItemView(history, columns, [row[0] for row in out], model_id, probabilities, neighbours)


def item_text(view: ItemView) -> str:
    """An item for a terminal."""
    lines = [history_text(view.history)]
    if not view.history.answers:
        lines.append(f"with annotators in {', '.join(view.out)}" if view.out else "in the pool")
    lines += [f"{name}: {value}" for name, value in view.context.items()]
    if view.model_id:
        likely = sorted(view.probabilities.items(), key=lambda pair: -pair[1])[:3]
        lines.append(f"model {view.model_id}: " + ", ".join(f"{name} {value:.3f}" for name, value in likely))
    if view.neighbours:
        lines.append("nearest items:")
    lines += [
        f"  {neighbour.cosine:.2f}  {neighbour.item_id}  {' '.join(neighbour.text.split())}"
        + (f"  ({neighbour.label})" if neighbour.label else "")
        for neighbour in view.neighbours
    ]
    return "\n".join(lines)


def _labels_of(store: Store, item_ids: list[str]) -> dict[str, str]:
    """The current label of each of these items that has one."""
    sql = (
        f"SELECT item_id, label FROM ({current_labels()}) WHERE label IS NOT NULL AND item_id IN (SELECT unnest($ids))"
    )
    return dict(store.rows(sql, {"ids": item_ids}))
