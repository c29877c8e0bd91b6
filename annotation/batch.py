"""A published batch: its folder, the manifest (written last), and the files for annotators.

The folder is derived from the lake alone, so a batch whose files were lost in a crash is simply written again. This
module also assigns items to annotators, mixes in adjudicated items as gold, and shows earlier answers to adjudicators.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotation.formats.registry import CSV, DEFINITION_NAME, FORMATS, Format
from annotation.label_set import Handout, LabelSet, label_set_of
from storage.errors import BatchError, WorkspaceError
from storage.files.folders import MANIFEST, add_files, inside, publish_folder, read_object
from storage.lake.batches import assignments_of, items_of, proposals_of
from storage.lake.codebook import UNCHANGED, Codebook, codebook_of
from storage.lake.context import with_columns
from storage.lake.evaluation_reserve import RESERVE
from storage.lake.history import answers_before
from storage.lake.schema import workspace_id
from storage.lake.store import Store
from storage.records import Assignment, Batch, BatchItem, Proposal, Purpose

if TYPE_CHECKING:
    import numpy as np

MANIFEST_VERSION = 2


@dataclass(frozen=True)
class Contents:
    """The contents of a batch in the lake.

    Attributes:
        items: The batch's own items in the order shown, then gold items.
        proposals: Which strategies proposed the batch's own items.
        assignments: Which annotator gets which item; empty if anybody may answer all of them.
        workspace_id: The workspace that published the batch.
        has_reserve: Whether items of the evaluation reserve are mixed in.
        codebook: The history of label changes.
        answers: Answers to show as already given: (item_id, annotator) -> answer and note, the newest last.
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
        """Whether gold or reserve items are mixed in; annotators must not be able to tell which they are."""
        return self.has_reserve or any(assignment.gold for assignment in self.assignments)


def contents_of(store: Store, batch: Batch, context: Sequence[str] = ()) -> Contents:
    """Load the contents of a batch; a batch to adjudicate includes the answers from before it was drawn.

    Args:
        context: Columns to show beside the texts.
    """
    items = with_columns(store, items_of(store, batch.batch_id), context)
    if batch.purpose is Purpose.ADJUDICATION:
        items = with_answers(items, answers_before(store, batch))
    return Contents(
        items,
        proposals_of(store, batch.batch_id),
        assignments_of(store, batch.batch_id),
        workspace_id(store),
        RESERVE in batch.mix,
        codebook_of(store),
    )


def write_batch(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> bool:
    """Publish the batch's folder atomically; returns False if it exists.

    A folder without a manifest is completed, and an annotator's files in it are kept. If its definition shows that its
    files were written with other keys, labels are read by name only from then on.
    """
    label_set = _without_unknown_keys(folder, label_set_of(label_set, contents.codebook, batch.codebook))

    def write(part: Path) -> dict[str, Any]:
        (part / DEFINITION_NAME).write_text(_definition(label_set), encoding="utf-8", newline="\n")
        formats = [FORMATS[name] for name in batch.formats or (CSV.name,)]  # old batches name no formats
        files = [file for form in formats for file in _write(part, form, batch, contents, label_set)]
        return _manifest(batch, contents, label_set, files, _hashes(part))

    return publish_folder(folder, write)


def write_again(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> None:
    """Restore missing files of a published batch: its folder, manifest or handouts; annotators' files are kept.

    A damaged manifest is renamed. Filled files are recognized by their contents, not by the manifest.
    """
    try:
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        items = {item["item_id"]: item["text_hash"] for item in manifest["items"]} if manifest else {}
        is_right = all(items.get(item.item_id) == item.text_hash for item in contents.items)
        forms = [FORMATS[file.format] for file in batch_files(folder)] if manifest else []
    except (BatchError, LookupError, TypeError):
        is_right, forms = False, []
    if is_right and forms and (folder / DEFINITION_NAME).is_file():
        add_formats(folder, batch, contents, label_set, list(dict.fromkeys(forms)))
        return
    if (folder / MANIFEST).exists():
        (folder / MANIFEST).replace(folder / f"{MANIFEST}.damaged")
    write_batch(folder, batch, contents, label_set)


def write_changed(folder: Path, batch: Batch, contents: Contents, label_set: LabelSet) -> None:
    """Rewrite those files of a published batch that nobody has changed; filled files stay as they are."""
    if not (folder / MANIFEST).is_file():
        return
    label_set, formats = published_labels(folder, label_set), {file.format for file in batch_files(folder)}
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
    """Write a published batch in additional formats; returns the files of these formats. Existing files are kept.

    The files use the keys that the batch was published with, not those of today's pal.toml. The manifest is updated
    last.
    """
    manifest = read_manifest(folder)
    label_set = published_labels(folder, label_set_of(label_set, contents.codebook, batch.codebook))
    existing = batch_files(folder)

    def write(part: Path) -> dict[str, Any]:
        new = [file for form in formats for file in _write(part, form, batch, contents, label_set)]
        manifest["files"] = {**_hashes(part), **manifest["files"]}
        manifest["handouts"] = [asdict(file) for file in dict.fromkeys((*existing, *new))]
        return manifest

    add_files(folder, write)
    names = {form.name for form in formats}
    return [folder / handout.file for handout in batch_files(folder) if handout.format in names]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a published batch.

    Raises:
        BatchError: The folder has no manifest, so it is not a batch, or the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BatchError(f"{folder} has no {MANIFEST}: it is not a batch.", hint="See the open batches: pal status")
    try:
        manifest = read_object(path)
        for label in manifest["labels"]:
            label["name"], label["key"]
        for file in (*manifest["files"], *(HandoutFile(**handout).file for handout in manifest.get("handouts", ()))):
            inside(folder, file)
    except (ValueError, LookupError, TypeError, WorkspaceError) as error:
        reason = f": {error!r}" if isinstance(error, LookupError | TypeError) else f" ({error})"
        raise BatchError(f"{path} is damaged{reason}.", hint="Write it again: pal check --repair") from error
    return manifest


def is_of(folder: Path, batch: Batch) -> bool:
    """Whether a published folder is of this batch; a damaged manifest, which `pal check` reports, counts as if."""
    try:
        created_at = datetime.fromisoformat(read_object(folder / MANIFEST)["created_at"])
    except (ValueError, LookupError, TypeError):
        return True
    return created_at == batch.created_at.replace(tzinfo=UTC)


def published_labels(folder: Path, label_set: LabelSet) -> LabelSet:
    """The label set with the keys and the guideline that the batch was published with, even if pal.toml changed since.

    A key that was reassigned must not change the meaning of an old answer. Labels removed from pal.toml are
    rejected. Manifests of earlier versions have no definition and no descriptions.
    """
    if not (folder / MANIFEST).is_file():
        return _without_unknown_keys(folder, label_set)
    manifest = read_manifest(folder)
    published = {label["name"]: label for label in manifest["labels"]}
    keys = {label["key"] for label in published.values()}
    labels = tuple(
        replace(
            label,
            key=published.get(label.name, {}).get("key", "" if label.key in keys else label.key),
            description=published.get(label.name, {}).get("description", label.description),
        )
        for label in label_set.labels
    )
    question = manifest.get("question", label_set.question)
    definition = manifest.get("definition", label_set.definition)
    return replace(label_set, labels=labels, question=question, definition=definition)


def _without_unknown_keys(folder: Path, label_set: LabelSet) -> LabelSet:
    """The label set for a folder without a manifest: without keys if annotators may have been given other keys."""
    definition = folder / DEFINITION_NAME
    if not folder.is_dir() or not any(folder.iterdir()):
        return label_set
    if definition.is_file() and definition.read_text(encoding="utf-8") == _definition(label_set):
        return label_set
    return replace(label_set, labels=tuple(replace(label, key="") for label in label_set.labels))


@dataclass(frozen=True)
class HandoutFile:
    """A file to fill in: its format, its annotator (empty: anybody) and its name."""

    format: str
    annotator: str
    file: str


def batch_files(folder: Path) -> list[HandoutFile]:
    """The files of a published batch that annotators fill in."""
    plain = asdict(HandoutFile(CSV.name, "", CSV.path(folder).name))
    rows = read_manifest(folder).get("handouts", [plain])  # version 1 of the manifest has no handouts
    return [HandoutFile(**row) for row in rows]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_published(folder: Path) -> dict[str, str]:
    """The hashes of a batch's files when they were published: name -> SHA-256."""
    hashes: dict[str, str] = read_manifest(folder)["files"]
    return hashes


def handouts(batch: Batch, contents: Contents, label_set: LabelSet) -> Iterator[Handout]:
    """The handout of each annotator, or a single handout with all items if none are assigned."""
    return _handouts(batch, contents, label_set_of(label_set, contents.codebook, batch.codebook))


def _handouts(batch: Batch, contents: Contents, label_set: LabelSet) -> Iterator[Handout]:
    by_id = {item.item_id: item for item in contents.items}
    first_proposals: dict[str, Proposal] = {}
    for proposal in _shown_proposals(contents):
        first_proposals.setdefault(proposal.item_id, proposal)
    ids_of: dict[str, list[str]] = {} if contents.assignments else {"": list(by_id)}
    for assignment in contents.assignments:
        ids_of.setdefault(assignment.annotator, []).append(assignment.item_id)
    for annotator, ids in sorted(ids_of.items()):
        items = [by_id[item_id] for item_id in ids]
        answers = {
            item_id: (who, *given) for (item_id, who), given in contents.answers.items() if annotator in ("", who)
        }
        yield Handout(batch.batch_id, label_set, items, annotator, first_proposals, contents.workspace_id, answers)


def _shown_proposals(contents: Contents) -> Sequence[Proposal]:
    """The proposals that annotators may see: none if they would reveal which items are mixed in."""
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
        "annotators": Counter(assignment.annotator for assignment in contents.assignments),
        "items": [
            {"item_id": item.item_id, "text_hash": item.text_hash, "proposals": proposed[item.item_id]}
            for item in (sorted(contents.items, key=lambda item: item.item_id) if contents.is_mixed else contents.items)
        ],
        "handouts": [asdict(file) for file in files],
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
    """Add the answers to each item as its context.

    Args:
        answers: item_id -> (annotator, answer, note) of each answer.

    >>> items = [BatchItem("i1", "Floods", "h")]
    >>> with_answers(items, {"i1": [("anna", "related", ""), ("ben", "unsure", "which town?")]})[0].context
    'anna: related; ben: unsure (which town?)'
    """
    return [replace(item, context="; ".join(map(_answer_line, answers.get(item.item_id, ())))) for item in items]


def _answer_line(annotator_answer_note: tuple[str, str, str]) -> str:
    annotator, answer, note = annotator_answer_note
    return f"{annotator}: {answer}{f' ({note})' if note else ''}"


def assign(
    item_ids: Sequence[str],
    annotators: Sequence[str],
    overlap: int,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]] | None = None,
) -> list[Assignment]:
    """Assign every item to `overlap` annotators so that their numbers of items differ by at most one.

    Args:
        item_ids: In the order to ask.
        annotators: At least `overlap` names.
        answered: item_id -> annotators who answered it before; they get it again only if there are too few others.
    """
    load: Counter[str] = Counter()
    n_shared: Counter[frozenset[str]] = Counter()
    assignments = []
    for item_id in item_ids:
        before = (answered or {}).get(item_id, ())
        chosen: list[str] = []
        for _ in range(overlap):
            candidates = [name for name in annotators if name not in chosen]
            ties = generator.random(len(candidates))
            ranks = [
                (name in before, load[name], sum(n_shared[frozenset((name, partner))] for partner in chosen), tie)
                for name, tie in zip(candidates, ties, strict=True)
            ]
            chosen.append(candidates[ranks.index(min(ranks))])
        load.update(chosen)
        n_shared.update(frozenset((a, b)) for k, a in enumerate(chosen) for b in chosen[:k])
        assignments += [Assignment(item_id, name) for name in annotators if name in chosen]
    return assignments


def with_gold(
    assignments: Sequence[Assignment],
    settled: Sequence[str],
    rate: float,
    generator: np.random.Generator,
    answered: Mapping[str, Collection[str]],
) -> list[Assignment]:
    """Insert gold items into each annotator's assignments, at random positions.

    Args:
        settled: Items with an adjudicated label that are not in the batch.
        rate: Gold items per item of an annotator, 0 to 1; the number is rounded, so it may be 0 for few items.
        answered: item_id -> annotators who got it before; they do not get it again.
    """
    by_annotator: dict[str, list[Assignment]] = {}
    for assignment in assignments:
        by_annotator.setdefault(assignment.annotator, []).append(assignment)
    with_gold_items = []
    for name, assigned in by_annotator.items():
        gold = [item_id for item_id in settled if name not in answered.get(item_id, ())]
        n = min(round(rate * len(assigned)), len(gold))
        mixed: list[Assignment] = list(assigned)
        for number in generator.permutation(len(gold))[:n]:
            mixed.insert(int(generator.integers(len(mixed) + 1)), Assignment(gold[number], name, gold=True))
        with_gold_items += mixed
    return with_gold_items
