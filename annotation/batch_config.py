"""`[batch]` of pal.toml: how large a batch is, in which formats it goes out, and who answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from annotation.formats.registry import FORMATS, find_formats
from storage.records import ORIGINAL, UNNAMED


@dataclass(frozen=True)
class BatchConfig:
    """Batches.

    Attributes:
        size: Items of an active batch.
        formats: Of its files.
        annotators: Each gets files of their own; with none, whoever takes the batch answers it.
        overlap: How many of them are asked about each item.
        gold: Settled items mixed in for each item of an annotator's own, 0 to 1.
    """

    size: int = 100
    formats: tuple[str, ...] = ("csv", "xlsx", "html")
    annotators: tuple[str, ...] = ()
    overlap: int = 1
    gold: float = 0.0

    def with_formats(self, names: Sequence[str] | None) -> BatchConfig:
        """The same with other formats; with its own where there are none.

        Raises:
            BatchError: There is no such format.
        """
        return replace(self, formats=tuple(form.name for form in find_formats(names))) if names else self

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        found = []
        if unknown := [name for name in self.formats if name not in FORMATS]:
            found.append(f"formats = {unknown[0]!r}: there is no such format; known: {', '.join(FORMATS)}")
        if not self.formats:
            found.append(f"formats is empty; choose from: {', '.join(FORMATS)}")
        for name in self.annotators:
            if not name.strip() or name != name.strip() or not name.isprintable():
                found.append(f"annotators: {name!r} is empty, has spaces around it or cannot be shown")
            if name in (UNNAMED, ORIGINAL):
                found.append(f"annotators: {name!r} is kept for answers without a name")
        if len({name.casefold() for name in self.annotators}) < len(self.annotators):
            found.append("annotators: a name stands there twice")
        if not 1 <= self.overlap <= max(1, len(self.annotators)):
            found.append(f"overlap = {self.overlap}; from 1 to the number of annotators, {len(self.annotators)}")
        if not 0 <= self.gold <= 1:
            found.append(f"gold = {self.gold}; 0 to 1")
        if self.gold and not self.annotators:
            found.append(f"gold = {self.gold} needs annotators: settled items are mixed into the files of each")
        return found
