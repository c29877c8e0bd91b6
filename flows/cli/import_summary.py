"""The summary of `pal import`: how a file was read, what happened to its rows, and what looks odd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.log_lines import counted

if TYPE_CHECKING:
    from storage.lake.importing import ImportReport


RARE_SCRIPT = 0.01
"""Minimum fraction of letters for a script to be listed."""


def summary(report: ImportReport) -> Iterator[str]:
    """The lines of a summary."""
    source = " ".join(report.source.splitlines())
    yield (
        f"{source}: {counted(report.n_rows, 'row')}, {counted(report.n_new, 'new item')}, "
        f"{counted(report.n_duplicates, 'duplicate')}, {report.n_rejected:,} rejected"
        + (f" (see {report.rejects_file})" if report.rejects_file else "")
    )
    yield from report.layout[1:]  # the first line is in the log
    if (lengths := report.lengths) is not None:
        yield f"  Characters of a text: median {lengths.median:,}, longest {lengths.longest:,}."
        if scripts := [f"{share:.0%} {script.title()}" for script, share in lengths.scripts if share >= RARE_SCRIPT]:
            yield f"  Letters: {', '.join(scripts).replace('Cjk', 'Chinese characters')}."
        if lengths.n_blank:
            examples = ", ".join(f"{text!r} in row {row:,}" for row, text in lengths.blank)
            yield f"  Texts that say nothing: {lengths.n_blank:,}, such as {examples}."
    for split, n in report.labels.items():
        yield f"  Labels imported for {split}: {n:,}."
    yield from (f"  {note}" for note in report.notes)
