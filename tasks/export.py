"""Exports the labeled data set as files with a data card."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotation.label_set import LabelSet, label_set_of
from storage.errors import SourceError
from storage.files.folders import MANIFEST, publish_folder, write_whole
from storage.lake.codebook import codebook_of
from storage.lake.outgoing import check_version, count_annotators, format_of_file, join_parts, labelled_items
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
    lake_version = version if version is not None else store.version()
    codebook = codebook_of(store)
    label_set = label_set_of(label_set, codebook, codebook.at(lake_version))
    labeled = labelled_items(store, lake_version)
    items = labeled.filter(pc.is_in(labeled["label"], pa.array(label_set.names, pa.string())))
    exported = Exported(str(output), _counts(items), lake_version, labeled.num_rows - items.num_rows)
    if exported.left_out:
        log.warning("Left out %d items whose labels are no longer in pal.toml.", exported.left_out)
    facts = CardFacts(
        exported.counts,
        pc.sum(items["n_answers"]).as_py() or 0,
        count_annotators(store, lake_version),
        lake_version,
        installed_version("pytorch-active-learning"),
        f"pal export {output.name} --at {lake_version}",
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
            raise SourceError(f"{output} exists.", hint="Name another path, or replace an earlier export: --force")
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


SPLIT_NAMES = {"training": "train", "validation": "validation", "evaluation": "test"}
"""Our splits, and what they are called where data sets are shared."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the labels' definition.

    Attributes:
        counts: Split -> label -> items.
        made_by: The command that makes the same again.
    """

    counts: Mapping[str, Mapping[str, int]]
    n_answers: int
    n_annotators: int
    lake_version: int
    code_version: str
    made_by: str


def data_card(label_set: LabelSet, facts: CardFacts, files: Mapping[str, str] | None = None) -> str:
    """A card as Markdown, with the front matter that Hugging Face reads where the data set has a file for each split.

    Args:
        files: Split -> path of its file; None for a data set in one file.
    """
    total = sum(n for counts in facts.counts.values() for n in counts.values())
    names = ", ".join(f"`{label.name}`{' (the rare one)' if label.positive else ''}" for label in label_set.labels)
    annotators = f"{facts.n_annotators:,} annotator{'s' if facts.n_annotators != 1 else ''}"
    rows = [
        f"| {SPLIT_NAMES.get(split, split)} | {label} | {n:,} |"
        for split, counts in facts.counts.items()
        for label, n in counts.items()
    ]
    return f"""{_front_matter(label_set, total, files) if files is not None else ""}# {label_set.name}

{total:,} short texts with a label each: {names}.

**Question to the annotators:** {label_set.question}

{label_set.definition or "There is no definition."}

| split | label | items |
|---|---|---|
{chr(10).join(rows)}

## Origin

- {facts.n_answers:,} answers of {annotators}. A label is the answer of most of them, or what an
  adjudicator settled. `n_answers` counts those that stand, `n_agree` those that equal the label.
- The texts of `test` and `validation` were drawn at random: figures on them hold for the whole collection.
- The texts of `train` were partly chosen by a model, because it was unsure of them or had seen nothing like them: the
  labels' shares there are not those of the collection.
- `batch_id` is the batch in which a text was first asked about, `annotated_at` when it was last answered (UTC).

Lake version {facts.lake_version}, pytorch-active-learning {facts.code_version}. Reproduce it with `{facts.made_by}`
"""


def _front_matter(label_set: LabelSet, total: int, files: Mapping[str, str]) -> str:
    listed = "\n".join(f"  - split: {SPLIT_NAMES[split]}\n    path: {path}" for split, path in files.items())
    size = next((name for most, name in _SIZES if total < most), "n>1M")
    return f"""---
pretty_name: {json.dumps(label_set.name)}
task_categories:
- text-classification
size_categories:
- {size}
configs:
- config_name: default
  data_files:
{listed}
---

"""


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
