"""What one annotator gets of a batch: the question and the items in the order they are asked, whatever the format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from annotation.label_set import LabelSet
from storage.records import BatchItem, Proposal


@dataclass(frozen=True)
class Handout:
    """What is written to one annotator's file, and nothing that would bias an answer.

    Attributes:
        items: In the order to ask.
        annotator: Whose file it is; empty where whoever takes it says so.
        proposals: item_id -> the strategy that proposed it first; only for a format whose shape has a place for it.
        workspace_id: Of the workspace that asks, for a format that has a place for it; empty where that is not known.
        answers: item_id -> annotator, answer and note to show as filled in already; CSV and workbooks show them.
    """

    batch_id: str
    label_set: LabelSet
    items: Sequence[BatchItem]
    annotator: str = ""
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    workspace_id: str = ""
    answers: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


def beside(item: BatchItem) -> str:
    """What is shown beside a text, in lines, for formats that have one place for it.

    >>> print(beside(BatchItem("i1", "Floods", "h", "ben: unsure", (("url", "http://x"),))))
    ben: unsure
    url: http://x
    """
    return "\n".join([*filter(None, [item.context]), *(f"{name}: {value}" for name, value in item.columns)])


def safe_name(name: str) -> str:
    """`name` as part of a file name; distinct names stay distinct on every file system.

    None gives the name of a file beside those to fill in: argilla-settings.json, or a list of errors.

    >>> safe_name("anna"), safe_name("Zoë / QA")
    ('anna', 'zo-qa~404a85198335')
    """
    if re.fullmatch(r"[a-z0-9._@-]{1,64}", name) and name != "settings" and not name.endswith(".errors"):
        return name
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{words}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
