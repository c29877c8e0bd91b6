"""How annotators agree, what one item was answered, and a batch's files in more formats: commands without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotation.agreement import Agreement, agreement
from annotation.batch import add_formats, contents_of, write_batch
from annotation.formats.registry import find_formats
from annotation.label_set import UNSURE
from storage.errors import BatchError
from storage.lake.batches import find_batch
from storage.lake.history import ItemHistory, gold_items, independent_answers
from storage.records import BatchStatus
from tasks.project import Project


def agreement_of(project: Project, *, unsure_counts: bool = False) -> Agreement:
    """The agreement of all annotators who gave their name; each item by the newest answer of each.

    Raises:
        BatchError: Nobody has answered under a name yet.
    """
    store, names = project.workspace.store(), project.config.task.names
    rows = [row for row in independent_answers(store).to_pylist() if row["answer"] in (*names, UNSURE)]
    if not rows:
        raise BatchError(
            "there are no answers of named annotators yet.",
            hint='in pal.toml, [batch] annotators = ["anna", "ben"] and overlap = 2; then pal next',
        )
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row["seconds"] is not None:
            seconds.setdefault(row["annotator"], []).append(row["seconds"])
    return agreement(
        [(row["item_id"], row["annotator"], row["answer"]) for row in rows],
        names,
        np.random.default_rng(project.config.model.seed),
        unsure="category" if unsure_counts else "missing",
        resolved={row["item_id"]: row["label"] for row in rows if row["label"] in names},
        gold={
            annotator: {item_id: label for item_id, label in items.items() if label in names}
            for annotator, items in gold_items(store).items()
        },
        seconds=seconds,
    )


def consensus_of(project: Project) -> dict[str, Any]:
    """What all annotators and the model say together of the training items (CROWDLAB): who is good, what is doubtful.

    Raises:
        PalError: The extra `crowd` is not installed, or no item has answers of two annotators.
    """
    from annotation.consensus import crowd_consensus
    from storage.lake.items import texts_of
    from tasks.review import answer_matrix, out_of_sample

    store, config = project.workspace.store(), project.config
    items = out_of_sample(project, store.version())
    matrix, names = answer_matrix(store, items.item_ids, config.task)
    found = crowd_consensus(matrix, items.probabilities)
    order = [int(at) for at in np.argsort(found.quality, kind="stable") if np.isfinite(found.quality[at])]
    texts = texts_of(store, [items.item_ids[at] for at in order])
    return {
        "annotators": {
            name: float(quality) if np.isfinite(quality) else None
            for name, quality in zip(names, found.annotator_quality, strict=True)
        },
        "items": [
            {
                "item_id": items.item_ids[at],
                "text": texts[items.item_ids[at]],
                "label": config.task.names[items.labels[at]],
                "consensus": config.task.names[found.labels[at]],
                "quality": float(found.quality[at]),
            }
            for at in order
        ],
    }


def consensus_text(found: dict[str, Any], most: int = 20) -> str:
    """For a terminal: each annotator's quality, then the items whose label is most doubtful."""
    lines = ["annotator quality (1 = always right, by all others and the model)"]
    for name, quality in found["annotators"].items():
        lines.append(f"  {name:<30}{'-' if quality is None else f'{quality:.3f}'}")
    lines += ["", "most doubtful labels (quality, label -> consensus, text)"]
    for item in found["items"][:most]:
        told = item["label"] if item["label"] == item["consensus"] else f"{item['label']} -> {item['consensus']}"
        lines.append(f"  {item['quality']:.3f}  {told:<30}  {' '.join(item['text'].split())[:60]}  ({item['item_id']})")
    return "\n".join(lines)


def history_text(found: ItemHistory) -> str:
    """An item's answers for a terminal, the oldest first; those that the label follows from are marked."""
    label = found.label or ("none: skipped, unsure or disputed" if found.answers else "none yet")
    lines = [" ".join(found.text.split()), f"label {label}" + (f" ({found.split.value})" if found.split else "")]
    for answer in found.answers:
        took = f", {answer.seconds:.1f} s" if answer.seconds is not None else ""
        note = f"\n      note: {answer.note}" if answer.note else ""
        lines.append(
            f"  {'*' if answer.counts else ' '} {answer.annotated_at:%Y-%m-%d %H:%M:%S} UTC  {answer.annotator}: "
            f"{answer.answer}  ({answer.batch_id}{took}; {answer.source_file}){note}"
        )
    if found.answers:
        lines.append("  * counts for the label")
    return "\n".join(lines)


def publish_formats(project: Project, batch_id: str, formats: Sequence[str]) -> list[Path]:
    """Write an open batch's files in more formats, beside those that are there; returns those of these formats.

    Raises:
        BatchError: There is no such batch or format, or the batch is not open.
    """
    store, task = project.workspace.store(), project.config.task
    found = find_formats(formats or project.config.batch.formats)
    batch = find_batch(store, batch_id).batch
    if batch.status is not BatchStatus.PUBLISHED:
        raise BatchError(f"batch {batch_id} is {batch.status.value}.", hint="open batches: pal status")
    project.workspace.pull()
    folder, contents = project.workspace.batches / batch_id, contents_of(store, batch)
    write_batch(folder, batch, contents, task)  # where a crash left it unwritten
    written = add_formats(folder, batch, contents, task, found)
    project.workspace.push()
    return written
