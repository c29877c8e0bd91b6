"""Prodigy: writes tasks for the choice interface, and reads the output of `prodigy db-out`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.json_entries import Entry, cell, chosen, outgoing, read_entries, shown, write_lines
from annotation.label_set import SKIP, UNSURE, Handout

_UNNAMED_SESSION = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
"""Prodigy names an unnamed session, and its annotator, by the time."""


def write_prodigy(path: Path, handout: Handout) -> None:
    """Write the tasks for `prodigy mark <dataset> prodigy.jsonl --view-id choice`; annotators skip with ignore.

    `meta` is shown in a corner of the card and returned with the answer.
    """
    options = [{"id": name, "text": name} for name in (*handout.label_set.names, UNSURE)]
    tasks: Iterator[dict[str, Any]] = (
        {"text": item.text, "meta": context | ids, "options": options} for item, context, ids in outgoing(handout)
    )
    write_lines(path, tasks)


def is_prodigy(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is a task, with or without an answer; a journal line has no text."""
    if "text" not in entry or {"data", "fields", "annotation_id", "_server_id"} & entry.keys():
        return False
    return bool({"options", "_task_hash", "answer"} & entry.keys())


def read_prodigy(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Read every task; ignored tasks are skips, and tasks accepted without a choice have no answer.

    Args:
        batch_id: The default for tasks that name no batch.

    Raises:
        BatchError: The file cannot be read, or an entry is not in Prodigy's format; the error names file and row.
    """
    return [_task(entry, batch_id) for entry in read_entries(path)]


def _task(entry: Entry, batch_id: str) -> FilledRow:
    values = entry.values
    meta = values.get("meta")
    annotator = cell(values.get("_annotator_id") or values.get("_session_id"))
    row = entry.row_of(
        {**(meta if isinstance(meta, dict) else {}), **values},
        batch_id,
        _label(entry),
        note=chosen(values.get("note") or values.get("user_input")),
        annotator="" if _UNNAMED_SESSION.fullmatch(annotator) else annotator,
    )
    return replace(row, annotated_at=entry.time(values.get("_timestamp")))


def _label(entry: Entry) -> str:
    values = entry.values
    answer = values.get("answer")
    if answer is None:
        return ""
    if answer not in ("accept", "reject", "ignore"):
        raise entry.fault(f"the answer is {shown(answer)!r} instead of accept, reject or ignore")
    if answer == "ignore":
        return SKIP
    picked = chosen(values["accept"] if "accept" in values else values.get("label"))
    return picked if answer == "accept" else _rejected(entry, picked)


def _rejected(entry: Entry, picked: str) -> str:
    """The answer after a rejected label: the other of two options; otherwise an invalid answer, which is reported."""
    options = [cell(option.get("id")) for option in entry.objects(entry.values, "options")]
    labels = [name for name in options if name not in (UNSURE, SKIP)]
    if "accept" not in entry.values and picked in labels and len(labels) == 2:
        return labels[1 - labels.index(picked)]
    return f"reject: {picked}"
