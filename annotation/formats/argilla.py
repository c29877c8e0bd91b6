"""Argilla 2: writes records and dataset settings, and reads records exported flat or nested."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.json_entries import Entry, cell, chosen, has_context, outgoing, read_entries, write_list
from annotation.label_set import SKIP, UNSURE, Handout
from storage.errors import BatchError

SETTINGS_FILE = "argilla-settings.json"
_RESPONSES = ".responses"


def write_argilla(path: Path, handout: Handout) -> None:
    """Write the records for `dataset.records.from_json(path)`, without suggestions, which would bias answers.

    Use one dataset per batch: a record replaces an existing record of the same id.
    """
    records = (
        {"id": item.item_id, "fields": {"text": item.text, **context}, "metadata": ids}
        for item, context, ids in outgoing(handout)
    )
    write_list(path, records)


def argilla_settings(handout: Handout) -> str:
    """The dataset settings for `rg.Settings.from_json(path)`: a label question with `unsure`, and a note.

    Annotators skip an item by discarding its record.
    """
    labels = handout.label_set
    fields = ["text", "context"] if has_context(handout) else ["text"]
    options = [{"value": name, "text": name} for name in (*labels.names, UNSURE)]
    metadata = ["item_id", "batch_id", "text_hash", *(["annotator"] if handout.annotator else [])]
    metadata += ["workspace_id"] if handout.workspace_id else []
    settings = {
        "guidelines": f"{labels.question}\n\n{labels.definition}".strip(),
        "fields": [_setting(name, name.capitalize(), {"type": "text"}, required=name == "text") for name in fields],
        "questions": [
            _setting("label", labels.question, {"type": "label_selection", "options": options}, required=True),
            _setting("note", "Note", {"type": "text"}, required=False),
        ],
        "metadata": [
            {"name": name, "title": name, "settings": {"type": "terms"}, "visible_for_annotators": False}
            for name in metadata
        ],
        "vectors": [],
        "allow_extra_metadata": True,
    }
    return json.dumps(settings, indent=2) + "\n"


def is_argilla(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is a record, nested or flat."""
    if isinstance(entry.get("fields"), dict):
        return True
    return "_server_id" in entry or any(name.endswith(_RESPONSES) for name in entry)


def read_argilla(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Read the responses of all users; a record without responses gives one row without an answer.

    Submitted responses are answers, discarded responses are skips, and drafts and suggestions are ignored. Annotators
    are user ids. `dataset.records.to_json` omits the status of responses; it is inferred from the record if possible.

    Args:
        batch_id: The default for records that name no batch.

    Raises:
        BatchError: The file cannot be read, an entry is not in Argilla's format, or a response has no known status.
    """
    return [row for entry in read_entries(path) for row in _of_record(entry, batch_id)]


def _of_record(entry: Entry, batch_id: str) -> list[FilledRow]:
    values = entry.values
    nested = isinstance(values.get("fields"), dict)
    metadata = values.get("metadata")
    fields = {**values["fields"], **(metadata if isinstance(metadata, dict) else {})} if nested else values
    fields = {**fields, "item_id": fields.get("item_id") or values.get("id")}
    responses = _nested(entry) if nested else _flat(entry)
    rows = [
        entry.row_of(fields, batch_id, _label(entry, answers), note=_value(answers, "note"), annotator=user)
        for user, answers in responses.items()
    ]
    return rows or [entry.row_of(fields, batch_id, "")]


UserAnswers = dict[str, tuple[object, str | None]]
"""One user's answers: question -> (value, status)."""


def _flat(entry: Entry) -> dict[str, UserAnswers]:
    """Responses by user, from parallel lists."""
    by_user: dict[str, UserAnswers] = {}
    for name in [name for name in entry.values if name.endswith(_RESPONSES)]:
        lists = [entry.values.get(f"{name}{part}") or [] for part in ("", ".users", ".status")]
        if not all(isinstance(values, list) for values in lists) or len({len(values) for values in lists}) > 1:
            raise entry.fault(f"{name!r}, its users and its status are not lists of equal length")
        for value, user, status in zip(*lists, strict=True):
            by_user.setdefault(cell(user), {})[name.removesuffix(_RESPONSES)] = (value, _status(status))
    return by_user


def _nested(entry: Entry) -> dict[str, UserAnswers]:
    """Responses by user, from a list of objects for each question."""
    responses = entry.values.get("responses") or {}
    if not isinstance(responses, dict):
        raise entry.fault("'responses' is not an object")
    by_user: dict[str, UserAnswers] = {}
    for question in responses:
        for response in entry.objects(responses, question):
            answers = by_user.setdefault(cell(response.get("user_id")), {})
            answers[question] = (response.get("value"), _status(response.get("status")))
    if len(by_user) == 1 and entry.values.get("status") == "completed":  # only a submitted response completes a record
        return {
            user: {question: (value, status or "submitted") for question, (value, status) in answers.items()}
            for user, answers in by_user.items()
        }
    return by_user


def _status(value: object) -> str | None:
    return None if value is None else cell(value)


def _label(entry: Entry, answers: UserAnswers) -> str:
    statuses = {status for _, status in answers.values()}
    if statuses == {"discarded"}:
        return SKIP
    if statuses == {"draft"}:
        return ""
    if statuses == {"submitted"}:
        values = {name: value for name, (value, _) in answers.items() if name != "note"}
        if "label" not in answers and values:
            return ", ".join(f"{name}: {chosen(value)}" for name, value in values.items())
        return _value(answers, "label")
    if statuses == {None}:
        raise BatchError(
            f"{entry.place}: a response to record {cell(entry.values.get('id'))!r} has no status and may be a draft.",
            hint="Export flat records: json.dump(dataset.records.to_list(flatten=True), open(path, 'w'))",
        )
    raise entry.fault(f"the status of a response is {', '.join(sorted(map(cell, statuses)))}")


def _value(answers: UserAnswers, question: str) -> str:
    return chosen(answers.get(question, (None, None))[0])


def _setting(name: str, title: str, settings: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "title": title, "required": required, "settings": settings}
