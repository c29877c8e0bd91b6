"""A published batch: its folder, the manifest written last, and the files for annotators.

Everything in the folder follows from the lake, so a batch whose files a crash left unwritten is simply written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from annotation.csv_file import write_csv
from annotation.label_set import LabelSet
from storage.errors import BatchError
from storage.folders import MANIFEST, publish_folder
from storage.records import Batch, BatchItem, Proposal

MANIFEST_VERSION = 1
CSV_NAME = "batch.csv"
DEFINITION_NAME = "definition.txt"


def write_batch(
    folder: Path, batch: Batch, items: Sequence[BatchItem], proposals: Sequence[Proposal], label_set: LabelSet
) -> bool:
    """Publish the batch's folder, whole or not at all; False where it is there already.

    A folder of that name without a manifest gets what it lacks: what an annotator has in it stays.
    """

    def write(part: Path) -> dict[str, Any]:
        write_csv(part / CSV_NAME, batch.batch_id, items)
        (part / DEFINITION_NAME).write_text(_definition(label_set), encoding="utf-8", newline="\n")
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(part.iterdir())}
        return _manifest(batch, items, proposals, label_set, hashes)

    return publish_folder(folder, write)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published batch.

    Raises:
        BatchError: The folder has none: it is not a batch; or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BatchError(f"{folder} has no {MANIFEST}: it is not a batch.", hint="see the open ones: pal status")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BatchError(
            f"{path} is damaged: {error}.", hint="remove that file; it is written again by: pal ingest"
        ) from error
    return manifest


def published_labels(folder: Path, label_set: LabelSet) -> LabelSet:
    """The label set with the keys that the batch's annotators were told, where pal.toml has others by now.

    A key that changed its label must not turn an old answer around. Labels that left pal.toml are no answers.
    """
    if not (folder / MANIFEST).is_file():
        return label_set
    told = {label["name"]: label["key"] for label in read_manifest(folder)["labels"]}
    labels = [
        replace(label, key=told.get(label.name) or (label.name if label.key in told.values() else label.key))
        for label in label_set.labels
    ]
    return replace(label_set, labels=tuple(labels))


def batch_files(folder: Path) -> list[Path]:
    """The files of a published batch that annotators fill in."""
    return [folder / CSV_NAME]


def _manifest(
    batch: Batch,
    items: Sequence[BatchItem],
    proposals: Sequence[Proposal],
    label_set: LabelSet,
    hashes: dict[str, str],
) -> dict[str, Any]:
    proposed: dict[str, list[dict[str, Any]]] = {item.item_id: [] for item in items}
    for proposal in proposals:
        proposed[proposal.item_id].append(
            {"strategy": proposal.strategy, "score": proposal.score, "rank": proposal.rank}
        )
    return {
        "manifest_version": MANIFEST_VERSION,
        "batch_id": batch.batch_id,
        "purpose": batch.purpose.value,
        "n": batch.n,
        "created_at": batch.created_at.replace(tzinfo=UTC).isoformat(),
        "task": label_set.name,
        "question": label_set.question,
        "labels": [{"name": label.name, "key": label.key} for label in label_set.labels],
        "label_set": batch.label_set,
        "model_id": batch.model_id,
        "seed": batch.seed,
        "lake_version": batch.lake_version,
        "mix": batch.mix,
        "strategies": [asdict(share) for share in batch.shares],
        "stop_signs": [asdict(sign) for sign in batch.stop_signs],
        "items": [
            {"item_id": item.item_id, "text_hash": item.text_hash, "proposals": proposed[item.item_id]}
            for item in items
        ],
        "files": hashes,
    }


def _definition(label_set: LabelSet) -> str:
    answers = "\n".join(f"  {answer}" for answer in label_set.allowed())
    return f"{label_set.question}\n\n{label_set.definition}\n\nWrite one of these in the column `label`:\n{answers}\n"
