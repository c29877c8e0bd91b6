"""doccano: items and labels to import go out, the file of one annotator in its export comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.json_entries import chosen, outgoing, read_entries, write_lines
from annotation.handout import Handout
from annotation.label_set import SKIP, UNSURE

LABELS_FILE = "doccano-labels.json"
_NOBODY = re.compile("all|unknown|doccano(-.*)?")
"""Files that are named for no annotator: of a project where all share one annotation, of old versions, and ours."""


def write_doccano(path: Path, handout: Handout) -> None:
    """Write the items to import, as JSON lines for a project of text classification. No key `id`: it is doccano's."""
    write_lines(path, ({"text": item.text, "label": [], **shown, **sent} for item, shown, sent in outgoing(handout)))


def doccano_labels(handout: Handout) -> str:
    """The labels to import, with `unsure` and `skip`, for which doccano has no way of its own."""
    labels = [(label.name, label.key) for label in handout.label_set.labels] + [(UNSURE, "u"), (SKIP, "")]
    keyed = [{"text": name, **({"suffixKey": key} if re.fullmatch("[0-9a-z]", key) else {})} for name, key in labels]
    return json.dumps(keyed, indent=2) + "\n"


def doccano_annotator(name: str) -> str:
    """Whose answers a file of an export is, by its name; empty where it is named for nobody.

    >>> doccano_annotator("anna.jsonl"), doccano_annotator("anna (1).jsonl"), doccano_annotator("all.jsonl")
    ('anna', 'anna', '')
    """
    stem = re.sub(r"\.jsonl?$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"( \(\d+\)| copy( \d+)?)+$", "", stem)  # a copy of it, as browsers and desktops name them
    return "" if _NOBODY.fullmatch(stem) else stem


def is_doccano(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is an item with a list of labels, and of none of the other tools."""
    other = {"data", "fields", "annotation_id", "_server_id", "_task_hash", "options", "answer"}
    return "text" in entry and isinstance(entry.get("label"), list) and not other & entry.keys()


def read_doccano(path: Path, *, batch_id: str = "", annotator: str = "") -> list[FilledRow]:
    """Every row of one file of an export (JSONL or JSON); without labels it is no answer.

    Args:
        batch_id: Of rows that name none.
        annotator: Whose file it is, by `doccano_annotator`; only its name says.

    Raises:
        BatchError: The file cannot be read, or an entry is broken; names file and row.
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
    return [chosen(each) for each in value] if isinstance(value, list) else [chosen(value)]
