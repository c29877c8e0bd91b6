"""A published batch: its folder, the manifest written last, and the files for annotators.

Everything in the folder follows from the lake, so a batch whose files a crash left unwritten is simply written again.
Also who of several annotators gets which items, which settled ones are mixed in as gold, and, for an adjudicator, who
answered what so far.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotation.formats.registry import CSV, DEFINITION_NAME, FORMATS, Format
from annotation.handout import Handout
from annotation.label_set import LabelSet, label_set_of
from storage.errors import BatchError, WorkspaceError
from storage.files.folders import MANIFEST, add_files, inside, publish_folder, read_object
from storage.lake.batches import assignments_of, has_reserve, items_of, proposals_of
from storage.lake.codebook import UNCHANGED, Codebook, codebook_of
from storage.lake.context import with_columns
from storage.lake.history import answers_before
from storage.lake.schema import workspace_id
from storage.lake.store import Store
from storage.records import Assignment, Batch, BatchItem, Proposal, Purpose

if TYPE_CHECKING:
    import numpy as np

MANIFEST_VERSION = 2


@dataclass(frozen=True)
class Contents:
    """What a batch holds, as the lake has it.

    Attributes:
        items: Its own in the order they are shown, then gold ones.
        proposals: Which strategies proposed its own.
        assignments: Who is asked about what; empty where whoever takes it is asked about all of its own.
        workspace_id: Of the workspace that asks.
        has_reserve: Whether items of the evaluation reserve are mixed in.
        codebook: How labels changed.
        answers: Those to show as filled in already: (item_id, annotator) -> answer and note, the newest last.
    """

    items: Sequence[BatchItem]
    proposals: Sequence[Proposal]
    assignments: Sequence[Assignment] = ()
    workspace_id: str = ""
    has_reserve: bool = False
    codebook: Codebook = UNCHANGED
    answers: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Whether settled items or the reserve's are mixed in; annotators must not be able to tell which they are."""
        return self.has_reserve or any(each.gold for each in self.assignments)


def contents_of(store: Store, batch: Batch, context: Sequence[str] = ()) -> Contents:
    """What a batch holds; of one to adjudicate with the answers that stood when it was drawn.

    Args:
        context: Columns that are shown beside the texts.
    """
    items = with_columns(store, items_of(store, batch.batch_id), context)
    if batch.purpose is Purpose.ADJUDICATION:
        items = with_answers(items, answers_before(store, batch))
    return Contents(
        items,
        proposals_of(store, batch.batch_id),
        assignments_of(store, batch.batch_id),
        workspace_id(store),
        has_reserve(store, batch.batch_id),
        codebook_of(store),
    )


def write_batch(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> bool:
    """Publish the batch's folder, whole or not at all; False where it exists.

    A folder of that name without a manifest gets what it lacks: what an annotator has in it stays. Where its files were
    written under other keys, as its definition tells, labels are read by their names alone from then on.
    """
    label_set = _as_told(folder, label_set_of(label_set, contents.codebook, batch.codebook))

    def write(part: Path) -> dict[str, Any]:
        (part / DEFINITION_NAME).write_text(_definition(label_set), encoding="utf-8", newline="\n")
        formats = [FORMATS[name] for name in batch.formats or (CSV.name,)]  # none: of before there was a choice
        files = [each for form in formats for each in _write(part, form, batch, contents, label_set)]
        return _manifest(batch, contents, label_set, files, _hashes(part))

    return publish_folder(folder, write)


def write_again(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> None:
    """Write what a published batch lacks: its folder, its manifest or files of it; what annotators have stays.

    A damaged manifest is put aside. Files that annotators filled in are known by their contents, not by the manifest.
    """
    try:
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        items = {item["item_id"]: item["text_hash"] for item in manifest["items"]} if manifest else {}
        is_right = all(items.get(item.item_id) == item.text_hash for item in contents.items)
        forms = [FORMATS[each.format] for each in batch_files(folder)] if manifest else []
    except (BatchError, LookupError, TypeError):
        is_right, forms = False, []
    if is_right and forms and (folder / DEFINITION_NAME).is_file():
        add_formats(folder, batch, contents, label_set, list(dict.fromkeys(forms)))
        return
    if (folder / MANIFEST).exists():
        (folder / MANIFEST).replace(folder / f"{MANIFEST}.damaged")
    write_batch(folder, batch, contents, label_set)


def write_changed(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> None:
    """Write a published batch's files anew where they are as published; what annotators filled in stays as it is."""
    if not (folder / MANIFEST).is_file():
        return
    label_set, formats = published_labels(folder, label_set), {each.format for each in batch_files(folder)}
    for name, digest in as_published(folder).items():
        path = folder / name
        if name != DEFINITION_NAME and path.is_file() and sha256_of(path) == digest:
            path.unlink()
    (folder / MANIFEST).unlink()
    write_batch(folder, batch, contents, label_set)
    add_formats(folder, batch, contents, label_set, [FORMATS[name] for name in sorted(formats)])


def add_formats(
    folder: Path, batch: Batch, contents: Contents, label_set: LabelSet, formats: Sequence[Format]
) -> list[Path]:
    """Write a published batch's files in more formats; returns those of these formats. What is there is left as it is.

    The keys are those of its first files, whatever pal.toml says by now. The manifest that names them is written last.
    """
    manifest = read_manifest(folder)
    label_set = published_labels(folder, label_set_of(label_set, contents.codebook, batch.codebook))
    known = batch_files(folder)

    def write(part: Path) -> dict[str, Any]:
        new = [each for form in formats for each in _write(part, form, batch, contents, label_set)]
        manifest["files"] = {**_hashes(part), **manifest["files"]}
        manifest["handouts"] = [asdict(each) for each in dict.fromkeys((*known, *new))]
        return manifest

    add_files(folder, write)
    names = {form.name for form in formats}
    return [folder / each.file for each in batch_files(folder) if each.format in names]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published batch.

    Raises:
        BatchError: The folder has none: it is not a batch; or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BatchError(f"{folder} has no {MANIFEST}: it is not a batch.", hint="see the open ones: pal status")
    try:
        manifest = read_object(path)
        for label in manifest["labels"]:
            label["name"], label["key"]
        for file in (*manifest["files"], *(HandoutFile(**each).file for each in manifest.get("handouts", ()))):
            inside(folder, file)
    except (ValueError, LookupError, TypeError, WorkspaceError) as error:
        reason = f": {error!r}" if isinstance(error, LookupError | TypeError) else f" ({error})"
        raise BatchError(f"{path} is damaged{reason}.", hint="Write it again: pal check --repair") from error
    return manifest


def published_labels(folder: Path, label_set: LabelSet) -> LabelSet:
    """The label set with the keys and the guideline that the batch's annotators were told, whatever pal.toml has now.

    A key that changed its label must not turn an old answer around. Labels that left pal.toml are no answers. Manifests
    of before there were guidelines in them say nothing of definition and descriptions.
    """
    if not (folder / MANIFEST).is_file():
        return _as_told(folder, label_set)
    manifest = read_manifest(folder)
    told = {label["name"]: label for label in manifest["labels"]}
    keys = {label["key"] for label in told.values()}
    labels = tuple(
        replace(
            label,
            key=told.get(label.name, {}).get("key", "" if label.key in keys else label.key),
            description=told.get(label.name, {}).get("description", label.description),
        )
        for label in label_set.labels
    )
    question = manifest.get("question", label_set.question)
    definition = manifest.get("definition", label_set.definition)
    return replace(label_set, labels=labels, question=question, definition=definition)


def _as_told(folder: Path, label_set: LabelSet) -> LabelSet:
    """The label set for a folder that lost its manifest: without keys where its annotators may know others."""
    told = folder / DEFINITION_NAME
    if not folder.is_dir() or not any(folder.iterdir()):
        return label_set
    if told.is_file() and told.read_text(encoding="utf-8") == _definition(label_set):
        return label_set
    return replace(label_set, labels=tuple(replace(label, key="") for label in label_set.labels))


@dataclass(frozen=True)
class HandoutFile:
    """A file that an annotator fills in: in which format, for whom (empty: whoever takes it), and its name."""

    format: str
    annotator: str
    file: str


def batch_files(folder: Path) -> list[HandoutFile]:
    """The files of a published batch that annotators fill in."""
    plain = asdict(HandoutFile(CSV.name, "", CSV.path(folder).name))
    found = read_manifest(folder).get("handouts", [plain])  # version 1 of the manifest has none
    return [HandoutFile(**each) for each in found]


def sha256_of(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_published(folder: Path) -> dict[str, str]:
    """The files of a published batch as they were written: name -> SHA-256."""
    hashes: dict[str, str] = read_manifest(folder)["files"]
    return hashes


def handouts(batch: Batch, contents: Contents, label_set: LabelSet) -> Iterator[Handout]:
    """What each annotator gets; one handout of all its own items where nobody in particular is asked."""
    return _handouts(batch, contents, label_set_of(label_set, contents.codebook, batch.codebook))


def _handouts(batch: Batch, contents: Contents, label_set: LabelSet) -> Iterator[Handout]:
    by_id = {item.item_id: item for item in contents.items}
    first: dict[str, Proposal] = {}
    for proposal in _shown_proposals(contents):
        first.setdefault(proposal.item_id, proposal)
    asked: dict[str, list[str]] = {} if contents.assignments else {"": list(by_id)}
    for each in contents.assignments:
        asked.setdefault(each.annotator, []).append(each.item_id)
    for annotator, ids in sorted(asked.items()):
        items = [by_id[item_id] for item_id in ids]
        answers = {
            item_id: (who, *given) for (item_id, who), given in contents.answers.items() if annotator in ("", who)
        }
        yield Handout(batch.batch_id, label_set, items, annotator, first, contents.workspace_id, answers)


def _shown_proposals(contents: Contents) -> Sequence[Proposal]:
    """The proposals that may stand in what annotators can open: none where they would tell which items are mixed in."""
    return () if contents.is_mixed else contents.proposals


def _write(folder: Path, form: Format, batch: Batch, contents: Contents, label_set: LabelSet) -> list[HandoutFile]:
    written = []
    for handout in _handouts(batch, contents, label_set):
        path = form.path(folder, handout.annotator)
        form.write(path, handout)
        written.append(HandoutFile(form.name, handout.annotator, path.name))
    return written


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def _manifest(
    batch: Batch, contents: Contents, label_set: LabelSet, files: Sequence[HandoutFile], hashes: dict[str, str]
) -> dict[str, Any]:
    proposed: dict[str, list[dict[str, Any]]] = {item.item_id: [] for item in contents.items}
    for proposal in _shown_proposals(contents):
        proposed[proposal.item_id].append(
            {"strategy": proposal.strategy, "score": proposal.score, "rank": proposal.rank}
        )
    return {
        "manifest_version": MANIFEST_VERSION,
        "batch_id": batch.batch_id,
        "workspace_id": contents.workspace_id,
        "codebook": batch.codebook,
        "purpose": batch.purpose.value,
        "n": batch.n,
        "created_at": batch.created_at.replace(tzinfo=UTC).isoformat(),
        "task": label_set.name,
        "question": label_set.question,
        "definition": label_set.definition,
        "labels": [
            {"name": label.name, "key": label.key, "description": label.description} for label in label_set.labels
        ],
        "label_set": batch.label_set,
        "model_id": batch.model_id,
        "seed": batch.seed,
        "lake_version": batch.lake_version,
        "mix": batch.mix,
        "strategies": [asdict(share) for share in batch.shares],
        "stop_signs": [asdict(sign) for sign in batch.stop_signs],
        "overlap": batch.overlap,
        "annotators": Counter(each.annotator for each in contents.assignments),
        "items": [
            {"item_id": item.item_id, "text_hash": item.text_hash, "proposals": proposed[item.item_id]}
            for item in (sorted(contents.items, key=lambda item: item.item_id) if contents.is_mixed else contents.items)
        ],
        "handouts": [asdict(each) for each in files],
        "files": hashes,
    }


def _definition(label_set: LabelSet) -> str:
    means = (f": {' '.join(label.description.split())}" if label.description else "" for label in label_set.labels)
    answers = "\n".join(
        f"  {answer}{meaning}" for answer, meaning in zip_longest(label_set.allowed(), means, fillvalue="")
    )
    definition = f"{label_set.definition}\n\n" if label_set.definition else ""
    return f"{label_set.question}\n\n{definition}Write one of these in the column `label`:\n{answers}\n"


def with_answers(items: Sequence[BatchItem], answers: Mapping[str, Sequence[tuple[str, str, str]]]) -> list[BatchItem]:
    """The items with the answers given to them as their context.

    Args:
        answers: item_id -> (annotator, answer, note) of each.

    >>> items = [BatchItem("i1", "Floods", "h")]
    >>> with_answers(items, {"i1": [("anna", "related", ""), ("ben", "unsure", "which town?")]})[0].context
    'anna: related; ben: unsure (which town?)'
    """
    return [replace(item, context="; ".join(map(_told, answers.get(item.item_id, ())))) for item in items]


def _told(answer: tuple[str, str, str]) -> str:
    annotator, given, note = answer
    return f"{annotator}: {given}{f' ({note})' if note else ''}"


def assign(
    item_ids: Sequence[str],
    annotators: Sequence[str],
    overlap: int,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]] | None = None,
) -> list[Assignment]:
    """Give every item to `overlap` annotators, such that all get as many items, give or take one.

    Args:
        item_ids: In the order in which each annotator is asked.
        annotators: At least `overlap`.
        answered: item_id -> who answered it before; they are asked again only where there are too few others.
    """
    load: Counter[str] = Counter()
    together: Counter[frozenset[str]] = Counter()
    found = []
    for item_id in item_ids:
        before = (answered or {}).get(item_id, ())
        chosen: list[str] = []
        for _ in range(overlap):
            left = [name for name in annotators if name not in chosen]
            ties = generator.random(len(left))
            ranks = [
                (name in before, load[name], sum(together[frozenset((name, other))] for other in chosen), tie)
                for name, tie in zip(left, ties, strict=True)
            ]
            chosen.append(left[ranks.index(min(ranks))])
        load.update(chosen)
        together.update(frozenset((a, b)) for k, a in enumerate(chosen) for b in chosen[:k])
        found += [Assignment(item_id, name) for name in annotators if name in chosen]
    return found


def with_gold(
    assignments: Sequence[Assignment],
    settled: Sequence[str],
    rate: float,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]],
) -> list[Assignment]:
    """The assignments with settled items among those of each annotator, at random places.

    Args:
        settled: Items with an adjudicated label, none of the batch's own.
        rate: Settled items for each item of an annotator's own, 0 to 1; rounded, so that few items may get none.
        answered: item_id -> who was asked about it before; nobody is asked again.
    """
    mine: dict[str, list[Assignment]] = {}
    for each in assignments:
        mine.setdefault(each.annotator, []).append(each)
    found = []
    for name, own in mine.items():
        fresh = [item_id for item_id in settled if name not in answered.get(item_id, ())]
        n = min(round(rate * len(own)), len(fresh))
        mixed: list[Assignment] = list(own)
        for at in generator.permutation(len(fresh))[:n]:
            mixed.insert(int(generator.integers(len(mixed) + 1)), Assignment(fresh[at], name, gold=True))
        found += mixed
    return found
