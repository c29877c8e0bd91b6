"""RIS, in which literature databases and reference managers export: one record for each reference.

Read here and not by a library: rispy drops a last record without its end and values of tags that it expects once, and
fails on lines that continue a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from storage.readers.columns import ColumnRequest
from storage.readers.file_kinds import open_text
from storage.readers.json_lines import open_records
from storage.readers.source import Source

_FIRST = re.compile(r"\s*TY {1,2}- ")
_LINE = re.compile(r"([A-Z][A-Z0-9]) {1,2}-(?: (.*))?$")
NAMES = {
    "TY": "type", "TI": "title", "T1": "title", "AB": "abstract", "N2": "abstract", "AU": "authors", "A1": "authors",
    "PY": "year", "Y1": "year", "DA": "date", "DO": "doi", "UR": "url", "LA": "language", "KW": "keywords",
    "JO": "journal", "JF": "journal", "T2": "journal", "AN": "accession_number", "ID": "reference_id",
}  # fmt: skip
"""Tags by the name of their column; others are columns named by the tag."""


def is_ris(text: str) -> bool:
    """Whether a file begins as RIS does."""
    return _FIRST.match(text) is not None


def open_ris(path: Path, encoding: str, request: ColumnRequest) -> Source:
    """Find out which columns matter; without a choice the text is title and abstract.

    Raises:
        SourceError: The columns cannot be told.
    """
    with path.open("rb") as binary, open_text(binary, encoding) as lines:
        records = list(read_records(lines))
    names = {name for record in records for name in record}
    texts = request.text or tuple(name for name in ("title", "abstract") if name in names)
    return open_records(path, "RIS", encoding, records, replace(request, text=texts))


def read_records(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Each record by column; different values of one column are joined by `; `.

    >>> list(read_records(["TY  - JOUR", "TI  - Floods in", "   towns", "KW  - a", "KW  - b", "ER  - "]))
    [{'type': 'JOUR', 'title': 'Floods in towns', 'keywords': 'a; b'}]
    """
    record: dict[str, list[str]] = {}
    tag = ""
    for line in lines:
        match = _LINE.match(line.strip("\ufeff\r\n"))
        if match and match[1] in ("ER", "TY") and record:
            yield _joined(record)
            record = {}
        if match:
            tag = match[1]
            if tag != "ER" and (value := (match[2] or "").strip()):
                record.setdefault(NAMES.get(tag, tag), []).append(value)
        elif line.strip() and (values := record.get(NAMES.get(tag, tag))):
            values[-1] += " " + line.strip()
    if record:
        yield _joined(record)


def _joined(record: dict[str, list[str]]) -> dict[str, str]:
    return {name: "; ".join(dict.fromkeys(values)) for name, values in record.items()}
