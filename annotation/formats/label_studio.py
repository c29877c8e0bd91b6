"""Label Studio: tasks and the labelling interface go out, its exports JSON and JSON_MIN come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from annotation.checks import FilledRow
from annotation.formats.json_entries import Entry, cell, chosen, has_context, outgoing, read_entries, write_list
from annotation.handout import Handout
from annotation.label_set import SKIP, UNSURE

CONFIG_FILE = "label-studio-config.xml"

_SENT = ("text", "context", "item_id", "batch_id", "text_hash", "workspace_id", "annotator")
_NO_LABEL = frozenset((*_SENT, "id", "annotation_id", "note", "created_at", "updated_at", "lead_time"))
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_label_studio(path: Path, handout: Handout) -> None:
    """Write the tasks to import. No predictions: a shown one biases the answer."""
    tasks = ({"data": {"text": item.text, **shown, **sent}} for item, shown, sent in outgoing(handout))
    write_list(path, tasks)


def label_studio_config(handout: Handout) -> str:
    """The labelling interface: question, definition, text, context if any, a choice with `unsure`, and a note.

    To skip, annotators have Label Studio's own button.
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
    """Every annotation of a JSON or JSON_MIN export; of a task without any one row without answer.

    Drafts and predictions are no answers. JSON_MIN leaves out what was skipped.

    Args:
        batch_id: Of tasks that name none.

    Raises:
        BatchError: The file cannot be read, or an entry is not what Label Studio writes; names file and entry.
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
        raise entry.fault("its annotations are under 'completions', as Label Studio before 1.0 exports them")
    annotations = entry.objects(entry.values, "annotations")
    if not annotations:
        return [entry.row_of(data, batch_id, "")]
    return [_annotation(entry, data, each, batch_id) for each in annotations]


def _annotation(entry: Entry, data: Mapping[str, Any], given: Mapping[str, Any], batch_id: str) -> FilledRow:
    result = entry.objects(given, "result")
    by = given.get("completed_by")
    row = entry.row_of(
        data,
        batch_id,
        SKIP if given.get("was_cancelled") is True else _label(result),
        note="; ".join(chosen(_value(each).get("text")) for each in result if each.get("type") == "textarea"),
        annotator=cell(by.get("email") or by.get("id")) if isinstance(by, dict) else cell(by),
    )
    return replace(
        row,
        seconds=entry.seconds(given.get("lead_time")),
        annotated_at=entry.time(given.get("updated_at") or given.get("created_at")),
    )


def _label(result: list[dict[str, Any]]) -> str:
    """The choices named `label`; those of another name, with it, are no answer and are reported."""
    choices = [each for each in result if each.get("type") == "choices"]
    if not choices:
        others = [each for each in result if each.get("type") not in ("textarea", "choices")]
        return ", ".join(f"{cell(each.get('from_name'))}: {cell(each.get('type'))}" for each in others)
    named = [chosen(_value(each).get("choices")) for each in choices if each.get("from_name") == "label"]
    return ", ".join(
        named or [f"{cell(each.get('from_name'))}: {chosen(_value(each).get('choices'))}" for each in choices]
    )


def _minimal(entry: Entry, batch_id: str) -> FilledRow:
    values = entry.values
    if "label" not in values and (others := [repr(name) for name in values if name not in _NO_LABEL]):
        raise entry.fault(f"the annotation has no 'label', but {', '.join(others)}")
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
    """What JSON_MIN makes of results: a text, `{"choices": [...]}`, or a list of these."""
    if isinstance(value, list):
        return ", ".join(_flat(each, name) for each in value)
    return chosen(value.get(name)) if isinstance(value, dict) else cell(value)


def _value(result: Mapping[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _hotkey(key: str) -> str:
    return f" hotkey={_attribute(key)}" if key else ""


def _attribute(value: str) -> str:
    # A value that begins with $ would be the name of a column.
    return quoteattr(_NOT_XML.sub("", f" {value}" if value.startswith("$") else value))
