"""doccano: writes items and labels to import, and reads one annotator's file of an export."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.json_entries import chosen, outgoing, read_entries, write_lines
from annotation.label_set import SKIP, UNSURE, Handout

LABELS_FILE = "doccano-labels.json"
_NOBODY = re.compile("all|unknown|doccano(-.*)?")
"""Files named for no annotator: from projects with shared annotations, from old versions, and our own."""


def write_doccano(path: Path, handout: Handout) -> None:
    """Write the items to import as JSON lines for text classification. doccano uses the key `id` itself."""
    write_lines(path, ({"text": item.text, "label": [], **context, **ids} for item, context, ids in outgoing(handout)))


def doccano_labels(handout: Handout) -> str:
    """The labels to import, with `unsure` and `skip`, which doccano does not have itself."""
    labels = [(label.name, label.key) for label in handout.label_set.labels] + [(UNSURE, "u"), (SKIP, "")]
    keyed = [{"text": name, **({"suffixKey": key} if re.fullmatch("[0-9a-z]", key) else {})} for name, key in labels]
    return json.dumps(keyed, indent=2) + "\n"


def doccano_annotator(name: str) -> str:
    """The annotator of a file of an export, by its name; empty if it names nobody.

    >>> doccano_annotator("anna.jsonl"), doccano_annotator("anna (1).jsonl"), doccano_annotator("all.jsonl")
    ('anna', 'anna', '')
    """
    stem = re.sub(r"\.jsonl?$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"( \(\d+\)| copy( \d+)?)+$", "", stem)  # a copy, as browsers and desktops name it
    return "" if _NOBODY.fullmatch(stem) else stem


def is_doccano(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is an item with a list of labels, and of no other tool."""
    other_tools = {"data", "fields", "annotation_id", "_server_id", "_task_hash", "options", "answer"}
    return "text" in entry and isinstance(entry.get("label"), list) and not other_tools & entry.keys()


def read_doccano(path: Path, *, batch_id: str = "", annotator: str = "") -> list[FilledRow]:
    """Read one file of an export (JSONL or JSON); a row without labels is not an answer.

    Args:
        batch_id: The default for rows that name no batch.
        annotator: The annotator of the file, from `doccano_annotator`.

    Raises:
        BatchError: The file cannot be read, or an entry is malformed; the error names file and row.
    """
    return [
        entry.row_of(
            entry.values,
            batch_id,
            chosen(entry.values.get("label")),
            note="; ".join(_comments(entry.values.get("Comments"))),
            annotator=annotator,
        )
        for entry in read_entries(path)
    ]


def _comments(value: object) -> list[str]:
    return [chosen(comment) for comment in value] if isinstance(value, list) else [chosen(value)]
