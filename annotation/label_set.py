"""The question for annotators: its labels with their keys, and how cells of a file are read as answers.

`Handout` is one annotator's part of a batch: the question and the items in the order they are asked.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from storage.errors import PalError
from storage.readers.spellings import folded_label
from storage.records import BatchItem, Proposal

if TYPE_CHECKING:
    from storage.lake.codebook import Codebook

UNSURE = "unsure"
SKIP = "skip"
RESERVED_KEYS = frozenset({"d", "?", "s", "u", "n", " "})
"""Keys with another meaning than a label: definition, save, unsure, note, skip."""


MOST_LISTED = 12
"""Maximum number of labels listed in an error, which is printed for each wrong row."""

KEYS = "123456789abcefghijklmopqrtvwxyz"
"""Keys for labels that are configured without one."""


class AnswerError(PalError):
    """A cell that is not an answer."""


@dataclass(frozen=True)
class Label:
    """One label: its name, the key that chooses it, and its role.

    Attributes:
        name: As stored and shown.
        key: One character that chooses the label in the terminal and is accepted in files; may be empty.
        positive: The rare label that metrics such as F1 are about (at most one).
        default: Chosen by Enter in the terminal (at most one).
        description: A sentence for annotators on what the label means; may be empty.
    """

    name: str
    key: str = ""
    positive: bool = False
    default: bool = False
    description: str = ""

    @cached_property
    def spellings(self) -> tuple[str, str]:
        """Name and key as answers are compared with them; the key is the name if there is none."""
        name = folded_label(self.name)
        return name, folded_label(self.key) if self.key else name

    @property
    def has_own_key(self) -> bool:
        """Whether the label has a key that differs from its name."""
        return self.key not in ("", self.name)


@dataclass(frozen=True)
class LabelSet:
    """The question that annotators answer.

    Attributes:
        highlight: Words to highlight in the texts.
        also: Other accepted spellings, each with the label name or answer that it stands for.

    >>> from annotation.label_set import Label, LabelSet
    >>> labels = LabelSet("t", "Related?", "...", (Label("related", "1", positive=True), Label("not_related", "0")))
    >>> labels.answer(" Related "), labels.answer("1.0"), labels.answer("unsure"), labels.answer("")
    ('related', 'related', 'unsure', None)
    """

    name: str
    question: str
    definition: str
    labels: tuple[Label, ...]
    highlight: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The label names in the order of pal.toml, which is the order of every model's outputs."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def positive(self) -> str | None:
        """The label that F1, precision and recall are about; None if no label is marked."""
        return next((label.name for label in self.labels if label.positive), None)

    @property
    def default(self) -> str | None:
        """The label that Enter chooses; None if no label is marked."""
        return next((label.name for label in self.labels if label.default), None)

    @cached_property
    def digest(self) -> str:
        """Hash of names, question, definition and descriptions: identifies the guideline behind an answer."""
        described = (f"{label.name}\x1e{label.description}" for label in self.labels if label.description)
        text = "\x1f".join((*self.names, self.question, self.definition, *described))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def answer(self, cell: str) -> str | None:
        """The answer in a cell: a label name, `unsure` or `skip`; None for an empty cell.

        Accepts a label's name or key in any case and spacing, and numeric keys that a spreadsheet turned into floats.

        Raises:
            AnswerError: Anything else; the hint suggests the closest answer, and lists all if they are few.
        """
        value = folded_label(cell)
        if not value:
            return None
        answers = self._spellings()
        answer = answers.get(value)
        if answer is None:
            near = difflib.get_close_matches(value, answers, n=1)
            suggestion = f"Did you mean {answers[near[0]]!r}? Otherwise write one" if near else "Write one"
            listed = self.allowed()
            choices = (
                f"of: {', '.join(listed)}."
                if len(listed) <= MOST_LISTED
                else f"of the {len(listed):,} labels listed in definition.txt in the batch's folder."
            )
            raise AnswerError(f"{cell.strip()!r} is not an answer.", hint=f"{suggestion} {choices}")
        return answer

    def allowed(self) -> list[str]:
        """Every answer as it may be written: `name (or key)` or `name`, then unsure and skip."""
        labels = [f"{label.name} (or {label.key})" if label.has_own_key else label.name for label in self.labels]
        return [*labels, UNSURE, SKIP]

    def by_key(self, key: str) -> str | None:
        """The name of the label with this key; None if there is none."""
        return next((label.name for label in self.labels if label.key == key), None)

    def faults(self) -> list[str]:
        """All faults of this label set; empty if it can be used."""
        faults = []
        if len(self.labels) < 2:
            faults.append(f"{'1 label' if self.labels else 'no labels'}; a task needs at least 2")
        for label in self.labels:
            if not label.name.strip() or label.name != label.name.strip():
                faults.append(f"label name {label.name!r} is empty or has spaces around it")
            if not label.name.isprintable():
                faults.append(f"label name {label.name!r} has unprintable characters")
            if label.spellings[0] in (UNSURE, SKIP):
                faults.append(f"label name {label.name!r} is reserved for the answer {label.spellings[0]}")
            if label.key and not _can_be_key(label.key):
                reserved = " ".join(sorted(RESERVED_KEYS - {" "}))
                faults.append(
                    f"key {label.key!r} of label {label.name!r} must be one character other than {reserved} or space"
                )
        spellings = [s for label in self.labels for s in {*label.spellings}]
        faults += [
            f"{s!r} is a name or key of two labels" for s in sorted({s for s in spellings if spellings.count(s) > 1})
        ]
        for mark in ("positive", "default"):
            marked = [label.name for label in self.labels if getattr(label, mark)]
            if len(marked) > 1:
                faults.append(f"{mark} = true on {' and '.join(marked)}; at most one label can have it")
        return faults

    def _spellings(self) -> dict[str, str]:
        spellings = {folded_label(name): answer for name, answer in self.also} | {UNSURE: UNSURE, SKIP: SKIP}
        for label in self.labels:
            name, key = label.spellings
            spellings |= {key: label.name, name: label.name}
        return spellings


def label_set_of(label_set: LabelSet, codebook: Codebook, number: int) -> LabelSet:
    """The label set of a batch: the labels that it was published with, even if labels have changed since.

    Later names of these labels are accepted too.

    Args:
        number: The version of the codebook with which the batch was published.
    """
    names = codebook.labels_of(number)
    if names is None:
        return label_set
    now = {label.name: label for label in label_set.labels}
    became = {name: codebook.became(name, number) or "" for name in names}
    heirs = {new: name for name, new in became.items() if new in now and [*became.values()].count(new) == 1}
    labels = tuple(
        replace(now[became[name]], name=name, key=key) if name in heirs.values() else Label(name, key)
        for name, key in names.items()
    )
    unchanged = [name for name in now if name not in heirs and codebook.became(name, number) == name]
    between = {change.label for change in codebook.changes if change.label and change.codebook > number}
    interim = {name: codebook.became(name, number) for name in sorted(between - {*names, *now})}
    also = {name: heirs.get(new, name) for name, new in interim.items() if new is not None and new in now}
    spellings = (*heirs.items(), *zip(unchanged, unchanged, strict=True), *also.items())
    return replace(label_set, labels=labels, also=spellings)


def with_keys(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Give a key to each label without one: its name if that is one character, else the next unused of `KEYS`.

    >>> [label.key for label in with_keys([Label("spam"), Label("1"), Label("ham", "h")])]
    ['2', '1', 'h']
    """
    used = {spelling for label in labels for spelling in label.spellings}
    free = (key for key in KEYS if key not in used)
    return tuple(
        label if label.key else replace(label, key=label.name if _can_be_key(label.name) else next(free, ""))
        for label in labels
    )


def _can_be_key(text: str) -> bool:
    return len(text) == 1 and text.casefold() not in RESERVED_KEYS and text.isprintable()


@dataclass(frozen=True)
class Handout:
    """The contents of one annotator's file; nothing in it may bias an answer.

    Attributes:
        items: In the order to ask.
        annotator: The annotator's name; empty for a file that anybody may fill in.
        proposals: item_id -> the proposal that came first, for formats with a column for it.
        workspace_id: The workspace that published the batch; empty if unknown.
        answers: item_id -> annotator, answer and note to show as already given; only CSV files and workbooks show them.
    """

    batch_id: str
    label_set: LabelSet
    items: Sequence[BatchItem]
    annotator: str = ""
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    workspace_id: str = ""
    answers: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


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
