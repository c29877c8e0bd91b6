"""The labelled data set as files for others. It needs no flow, so that nobody waits for a server."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotation.data_card import SPLIT_NAMES, CardFacts, data_card
from annotation.label_set import LabelSet
from storage.errors import SourceError
from storage.export import check_version, count_annotators, labelled_items
from storage.files.folders import MANIFEST, publish_folder, write_whole
from storage.lake.outgoing import format_of_file, join_parts
from storage.workspace import Workspace

log = logging.getLogger(__name__)

KIND = "labelled data set"


@dataclass(frozen=True)
class Exported:
    """What was written, and of which lake version.

    Attributes:
        counts: Split -> label -> items.
        left_out: Items whose label pal.toml no longer has.
    """

    output: str
    counts: dict[str, dict[str, int]]
    lake_version: int
    left_out: int


def export(
    workspace: Workspace, label_set: LabelSet, output: Path, version: int | None = None, *, replace: bool = False
) -> Exported:
    """Write every item that has a label: one file, or, under a name without a suffix, a directory with one per split.

    The same lake version gives the same bytes.

    Args:
        version: Of the lake; the newest where None.
        replace: An earlier export in that directory; anything else is never replaced.

    Raises:
        StoreError: The lake has no such version.
        SourceError: The file's suffix stands for no format, or the directory is there and not to be replaced.
    """
    store = workspace.store()
    if version is not None:
        check_version(store, version)
    at = version if version is not None else store.version()
    found = labelled_items(store, at)
    items = found.filter(pc.is_in(found["label"], pa.array(label_set.names, pa.string())))
    exported = Exported(str(output), _counts(items), at, found.num_rows - items.num_rows)
    if exported.left_out:
        log.warning("%d items have labels that pal.toml no longer has; left out", exported.left_out)
    facts = CardFacts(
        exported.counts,
        pc.sum(items["n_answers"]).as_py() or 0,
        count_annotators(store, at),
        at,
        installed_version("pytorch-active-learning"),
        f"pal export {output.name} --at {at}",
    )
    if output.suffix:
        form = format_of_file(output)
        with workspace.scratch() as scratch:
            pq.write_table(items, scratch / "items.parquet")
            output.parent.mkdir(parents=True, exist_ok=True)
            join_parts([scratch / "items.parquet"], output, form)
        write_whole(output.with_suffix(".md"), data_card(label_set, facts).encode())
    else:
        _write_directory(output, items, label_set, facts, replace=replace)
    return exported


def _write_directory(output: Path, items: pa.Table, label_set: LabelSet, facts: CardFacts, *, replace: bool) -> None:
    files = {split: f"data/{SPLIT_NAMES[split]}.parquet" for split in SPLIT_NAMES if split in facts.counts}

    def write(folder: Path) -> dict[str, Any]:
        (folder / "data").mkdir()
        for split, path in files.items():
            pq.write_table(items.filter(pc.equal(items["split"], split)).drop_columns(["split"]), folder / path)
        (folder / "README.md").write_text(data_card(label_set, facts, files), encoding="utf-8", newline="\n")
        return {"kind": KIND, "lake_version": facts.lake_version, "counts": facts.counts}

    if output.exists() and any(output.iterdir()):
        if not (replace and _is_export(output)):
            raise SourceError(
                f"{output} is there already.", hint="name another place; or replace an earlier export: --force"
            )
        old = output.with_name(f".{output.name}.{os.getpid()}.old")
        output.rename(old)
        publish_folder(output, write)
        shutil.rmtree(old)
        return
    publish_folder(output, write)


def _is_export(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"] == KIND)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _counts(items: pa.Table) -> dict[str, dict[str, int]]:
    """Split -> label -> items, splits and labels in the order of the glossary and of their names."""
    grouped = items.group_by(["split", "label"]).aggregate([("item_id", "count")]).sort_by("label").to_pylist()
    counts: dict[str, dict[str, int]] = {}
    for split in SPLIT_NAMES:
        if rows := {row["label"]: row["item_id_count"] for row in grouped if row["split"] == split}:
            counts[split] = rows
    return counts
