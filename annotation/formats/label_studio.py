"""Label Studio: writes tasks and the labeling interface, and reads the exports JSON and JSON_MIN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from annotation.checks import FilledRow
from annotation.formats.json_entries import Entry, cell, chosen, has_context, outgoing, read_entries, write_list
from annotation.label_set import SKIP, UNSURE, Handout

CONFIG_FILE = "label-studio-config.xml"

_SENT_KEYS = ("text", "context", "item_id", "batch_id", "text_hash", "workspace_id", "annotator")
_NOT_LABELS = frozenset((*_SENT_KEYS, "id", "annotation_id", "note", "created_at", "updated_at", "lead_time"))
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_label_studio(path: Path, handout: Handout) -> None:
    """Write the tasks to import, without predictions, which would bias answers."""
    tasks = ({"data": {"text": item.text, **context, **ids}} for item, context, ids in outgoing(handout))
    write_list(path, tasks)


def label_studio_config(handout: Handout) -> str:
    """The labeling interface: question, definition, text, context if any, a choice with `unsure`, and a note.

    Annotators skip items with Label Studio's own button.
    """
    labels = handout.label_set
    choices = [(label.name, label.key) for label in labels.labels] + [(UNSURE, "u")]
    lines = [
        "<View>",
        f"  <Header value={_attribute(labels.question)}/>",
        *([f'  <Header size="5" value={_attribute(labels.definition)}/>'] if labels.definition else []),
        '  <Text name="text" value="$text"/>',
        *(['  <Text name="context" value="$context"/>'] if has_context(handout) else []),
        '  <Choices name="label" toName="text" choice="single" required="true">',
        *(f"    <Choice value={_attribute(name)}{_hotkey(key)}/>" for name, key in choices),
        "  </Choices>",
        '  <TextArea name="note" toName="text" rows="1" placeholder="note" maxSubmissions="1"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def is_label_studio(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is a task, as imported or exported, or an annotation of a JSON_MIN export."""
    return isinstance(entry.get("data"), dict) or "annotation_id" in entry


def read_label_studio(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Read the annotations of a JSON or JSON_MIN export; a task without annotations gives one row without an answer.

    Drafts and predictions are ignored. JSON_MIN does not contain skips.

    Args:
        batch_id: The default for tasks that name no batch.

    Raises:
        BatchError: The file cannot be read, or an entry is not in Label Studio's format; the error names the entry.
    """
    rows = []
    for entry in read_entries(path):
        if isinstance(entry.values.get("data"), dict):
            rows += _of_task(entry, batch_id)
        else:
            rows.append(_minimal(entry, batch_id))
    return rows


def _of_task(entry: Entry, batch_id: str) -> list[FilledRow]:
    data = entry.values["data"]
    if entry.values.get("completions"):
        raise entry.fault("its annotations are under 'completions', the format of Label Studio before 1.0")
    annotations = entry.objects(entry.values, "annotations")
    if not annotations:
        return [entry.row_of(data, batch_id, "")]
    return [_annotation(entry, data, annotation, batch_id) for annotation in annotations]


def _annotation(entry: Entry, data: Mapping[str, Any], annotation: Mapping[str, Any], batch_id: str) -> FilledRow:
    result = entry.objects(annotation, "result")
    by = annotation.get("completed_by")
    row = entry.row_of(
        data,
        batch_id,
        SKIP if annotation.get("was_cancelled") is True else _label(result),
        note="; ".join(chosen(_value(part).get("text")) for part in result if part.get("type") == "textarea"),
        annotator=cell(by.get("email") or by.get("id")) if isinstance(by, dict) else cell(by),
    )
    return replace(
        row,
        seconds=entry.seconds(annotation.get("lead_time")),
        annotated_at=entry.time(annotation.get("updated_at") or annotation.get("created_at")),
    )


def _label(result: list[dict[str, Any]]) -> str:
    """The choices named `label`; choices of other names are returned with the name, which is not a valid answer."""
    choices = [part for part in result if part.get("type") == "choices"]
    if not choices:
        unexpected = [part for part in result if part.get("type") not in ("textarea", "choices")]
        return ", ".join(f"{cell(part.get('from_name'))}: {cell(part.get('type'))}" for part in unexpected)
    labels = [chosen(_value(part).get("choices")) for part in choices if part.get("from_name") == "label"]
    return ", ".join(
        labels or [f"{cell(part.get('from_name'))}: {chosen(_value(part).get('choices'))}" for part in choices]
    )


def _minimal(entry: Entry, batch_id: str) -> FilledRow:
    values = entry.values
    if "label" not in values and (unknown := [repr(name) for name in values if name not in _NOT_LABELS]):
        raise entry.fault(f"the annotation has no 'label', but {', '.join(unknown)}")
    row = entry.row_of(
        values,
        batch_id,
        _flat(values.get("label"), "choices"),
        note=_flat(values.get("note"), "text"),
        annotator=cell(values.get("annotator")),
    )
    return replace(
        row,
        seconds=entry.seconds(values.get("lead_time")),
        annotated_at=entry.time(values.get("updated_at") or values.get("created_at")),
    )


def _flat(value: object, name: str) -> str:
    """A result in JSON_MIN: a text, `{"choices": [...]}`, or a list of these."""
    if isinstance(value, list):
        return ", ".join(_flat(part, name) for part in value)
    return chosen(value.get(name)) if isinstance(value, dict) else cell(value)


def _value(result: Mapping[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _hotkey(key: str) -> str:
    return f" hotkey={_attribute(key)}" if key else ""


def _attribute(value: str) -> str:
    # Label Studio reads a value that begins with $ as the name of a column.
    return quoteattr(_NOT_XML.sub("", f" {value}" if value.startswith("$") else value))
