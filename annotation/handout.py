"""One annotator's part of a batch: the question and the items in the order they are asked, for every format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from annotation.label_set import LabelSet
from storage.records import BatchItem, Proposal


@dataclass(frozen=True)
class Handout:
    """The contents of one annotator's file; nothing in it may bias an answer.

    Attributes:
        items: In the order to ask.
        annotator: The annotator's name; empty for a file that anybody may fill in.
        proposals: item_id -> the proposal that came first, for formats with a column for it.
        workspace_id: The workspace that published the batch; empty if unknown.
    """

    batch_id: str
    label_set: LabelSet
    items: Sequence[BatchItem]
    annotator: str = ""
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    workspace_id: str = ""


def beside(item: BatchItem) -> str:
    """The context of an item in lines, for formats with one field for it.

    >>> print(beside(BatchItem("i1", "Floods", "h", "ben: unsure", (("url", "http://x"),))))
    ben: unsure
    url: http://x
    """
    return "\n".join([*filter(None, [item.context]), *(f"{name}: {value}" for name, value in item.columns)])


def safe_name(name: str) -> str:
    """Make `name` safe as part of a file name; distinct names stay distinct on every file system.

    The result never collides with argilla-settings.json or a list of errors.

    >>> safe_name("anna"), safe_name("Zoë / QA")
    ('anna', 'zo-qa~404a85198335')
    """
    if re.fullmatch(r"[a-z0-9._@-]{1,64}", name) and name != "settings" and not name.endswith(".errors"):
        return name
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{words}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
