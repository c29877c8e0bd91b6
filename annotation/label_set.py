"""What is asked of annotators: the question, the labels with their keys, and which cells mean which answer."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from storage.errors import PalError
from storage.readers.spellings import folded_label

if TYPE_CHECKING:
    from storage.lake.codebook import Codebook

UNSURE = "unsure"
SKIP = "skip"
RESERVED_KEYS = frozenset({"d", "?", "s", "u", "n", " "})
"""Keys that an annotator uses for something else than a label: definition, save, unsure, note, skip."""


MOST_LISTED = 12
"""Labels that an error names; it is printed for each wrong row."""

KEYS = "123456789abcefghijklmopqrtvwxyz"
"""Keys for labels that come without one."""


class AnswerError(PalError):
    """A cell that is no answer; `value` is what stood there."""


@dataclass(frozen=True)
class Label:
    """One label: its name, the key that chooses it, and what it means to the loop.

    Attributes:
        name: As it is stored and shown.
        key: One character that chooses it in the terminal, accepted in files too; empty where it has none.
        positive: The rare label that the figures are about (at most one).
        default: Chosen by Enter in the terminal (at most one).
        description: What it means, in a sentence for annotators; may be empty.
    """

    name: str
    key: str = ""
    positive: bool = False
    default: bool = False
    description: str = ""

    @property
    def has_own_key(self) -> bool:
        """Whether there is a key, and it is not the name itself."""
        return self.key not in ("", self.name)


@dataclass(frozen=True)
class LabelSet:
    """The question that annotators answer.

    Attributes:
        highlight: Words that are marked in the texts that annotators read.

    >>> from annotation.label_set import Label, LabelSet
    >>> labels = LabelSet("t", "Related?", "...", (Label("related", "1", positive=True), Label("not_related", "0")))
    >>> labels.answer(" Related "), labels.answer("1.0"), labels.answer("unsure"), labels.answer("")
    ('related', 'related', 'unsure', None)

    Attributes:
        also: Other names that are accepted, each with the label name, or answer, that it stands for.
    """

    name: str
    question: str
    definition: str
    labels: tuple[Label, ...]
    highlight: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The label names, in the order of pal.toml: the order of every model's outputs."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def positive(self) -> str | None:
        """The label that F1, precision and recall are about; None where no label is marked."""
        return next((label.name for label in self.labels if label.positive), None)

    @property
    def default(self) -> str | None:
        """The label that Enter chooses; None where no label is marked."""
        return next((label.name for label in self.labels if label.default), None)

    @cached_property
    def digest(self) -> str:
        """Hash of names, question, definition and descriptions: which guideline an answer was given under."""
        described = (f"{label.name}\x1e{label.description}" for label in self.labels if label.description)
        text = "\x1f".join((*self.names, self.question, self.definition, *described))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def answer(self, cell: str) -> str | None:
        """The answer that a cell stands for: a label name, `unsure` or `skip`; None for an empty cell.

        Accepts a label's name or key in any case and spacing, and a number that a spreadsheet made a float.

        Raises:
            AnswerError: Anything else; the hint names the nearest answer, and all of them where they are few.
        """
        value = folded_label(cell)
        if not value:
            return None
        answers = self._spellings()
        found = answers.get(value)
        if found is None:
            near = difflib.get_close_matches(value, answers, n=1)
            first = f"did you mean {answers[near[0]]!r}? Otherwise one" if near else "write one"
            listed = self.allowed()
            rest = (
                f"of: {', '.join(listed)}."
                if len(listed) <= MOST_LISTED
                else f"of the {len(listed):,} in definition.txt beside the batch's files."
            )
            raise AnswerError(f"{cell.strip()!r} is no answer.", hint=f"{first} {rest}")
        return found

    def allowed(self) -> list[str]:
        """Every answer as it may be written: `name (or key)` or `name`, then unsure and skip."""
        labels = [f"{each.name} (or {each.key})" if each.has_own_key else each.name for each in self.labels]
        return [*labels, UNSURE, SKIP]

    def by_key(self, key: str) -> str | None:
        """The name of the label that a pressed key chooses; None where no label has it."""
        return next((label.name for label in self.labels if label.key == key), None)

    def faults(self) -> list[str]:
        """Everything that is wrong with this label set, in words; empty when it can be used."""
        found = []
        if len(self.labels) < 2:
            found.append(f"{'1 label' if self.labels else 'no labels'}; a task needs at least 2")
        for label in self.labels:
            if not label.name.strip() or label.name != label.name.strip():
                found.append(f"label name {label.name!r} is empty or has spaces around it")
            if not label.name.isprintable():
                found.append(f"label name {label.name!r} has characters that cannot be shown")
            if folded_label(label.name) in (UNSURE, SKIP):
                found.append(f"label name {label.name!r} is kept for the answer of that name")
            if label.key and not _can_be_key(label.key):
                kept = " ".join(sorted(RESERVED_KEYS - {" "}))
                found.append(
                    f"key {label.key!r} of label {label.name!r} must be one character, none of: {kept} or space"
                )
        spellings = [
            s for label in self.labels for s in {folded_label(label.name), folded_label(label.key or label.name)}
        ]
        found += [f"{s!r} stands for two labels" for s in sorted({s for s in spellings if spellings.count(s) > 1})]
        for mark in ("positive", "default"):
            marked = [label.name for label in self.labels if getattr(label, mark)]
            if len(marked) > 1:
                found.append(f"{mark} = true on {' and '.join(marked)}; at most one label can have it")
        return found

    def _spellings(self) -> dict[str, str]:
        spellings = {folded_label(name): answer for name, answer in self.also} | {UNSURE: UNSURE, SKIP: SKIP}
        for label in self.labels:
            spellings |= {folded_label(label.key): label.name} if label.key else {}
            spellings[folded_label(label.name)] = label.name
        return spellings


def label_set_of(label_set: LabelSet, codebook: Codebook, number: int) -> LabelSet:
    """What a batch of a number of the codebook asks: where labels changed since, those that it was published with.

    Its answers name its own labels. What stands for one of them today, or did in between, is accepted, too.
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
    others = [name for name in now if name not in heirs and codebook.became(name, number) == name]
    between = {each.label for each in codebook.changes if each.label and each.codebook > number} - {*names, *now}
    passed = {name: codebook.became(name, number) for name in sorted(between)}
    also = {name: heirs.get(new, name) for name, new in passed.items() if new is not None and new in now}
    return replace(label_set, labels=labels, also=(*heirs.items(), *zip(others, others, strict=True), *also.items()))


def with_keys(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels, with a key for those that have none: a name of one character, else the next free one of `KEYS`.

    >>> [label.key for label in with_keys([Label("spam"), Label("1"), Label("ham", "h")])]
    ['2', '1', 'h']
    """
    taken = {folded_label(text) for label in labels for text in (label.name, label.key)}
    free = (key for key in KEYS if key not in taken)
    return tuple(
        label if label.key else replace(label, key=label.name if _can_be_key(label.name) else next(free, ""))
        for label in labels
    )


def _can_be_key(text: str) -> bool:
    return len(text) == 1 and text.casefold() not in RESERVED_KEYS and text.isprintable()
