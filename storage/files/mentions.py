"""Whether files hold a text, whatever their format: to delete the last copy of one that has to go.

A text is looked for by its beginning, since lists of errors cut texts off; case, white space and ASCII punctuation do
not count, so that quoting and escaping do not hide it. A short text is therefore also seen within longer ones.
"""

from __future__ import annotations

import gzip
import html
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from storage.readers.spellings import folded

_BEGINNING = 24
"""Characters by which a text is looked for."""
_LEAST_OF_A_PIECE = 12
"""Shorter pieces of a text are not looked for by themselves."""
_CELLS = re.compile(r"[\r\n\t,;]+")
_PIECE_BYTES, _OVERLAP_BYTES = 16 << 20, 4096
_IGNORED = re.compile(r"[\s!-/:-@\[-`{-~]+")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_LINE_BREAKS = re.compile(r"\\[nrt]|_x[0-9A-Fa-f]{4}_")
_TAGS = re.compile(r"<[^>]*>")


class Mentions:
    """Some texts, looked for in files.

    Args:
        texts: Those without a letter, a digit or a symbol beyond ASCII cannot be looked for.
        in_pieces: Also look for what broken rows make of them: what is between line breaks, tabs, commas, semicolons.
    """

    def __init__(self, texts: Iterable[str], *, in_pieces: bool = False) -> None:
        texts = list(texts)
        pieces = (_bare(piece) for text in texts for piece in (_CELLS.split(text) if in_pieces else ()))
        searched = (*map(_bare, texts), *(piece for piece in pieces if len(piece) >= _LEAST_OF_A_PIECE))
        self._beginnings = {bare[:_BEGINNING] for bare in searched} - {""}

    @property
    def long_beginnings(self) -> list[str]:
        """What is looked for, but for what is so short that it stands in other texts by chance."""
        return sorted(beginning for beginning in self._beginnings if len(beginning) >= _LEAST_OF_A_PIECE)

    def in_text(self, text: str) -> bool:
        """Whether a string holds one of the texts, as it is or as JSON, HTML or XML writes it."""
        json_text = _LINE_BREAKS.sub(" ", _ESCAPES.sub(_unescaped, text))
        readings = {text, json_text, html.unescape(json_text), html.unescape(_TAGS.sub("", json_text))}
        return any(beginning in bare for bare in map(_bare, readings) for beginning in self._beginnings)

    def in_file(self, path: Path) -> bool:
        """Whether a file holds one of the texts; archives, workbooks and Parquet files are unpacked."""
        with path.open("rb") as file:
            return self.in_stream(file)

    def in_stream(self, file: io.BytesIO | io.BufferedReader) -> bool:
        """Whether a file's content holds one of the texts, as `in_file`."""
        start = file.read(4)
        file.seek(0)
        if start == b"PAR1":
            return any(self.in_text(text) for text in _strings_of(file))
        if start.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
                return any(self.in_stream(io.BytesIO(archive.read(name))) for name in archive.namelist())
        if start.startswith(b"\x1f\x8b"):
            return self.in_stream(io.BytesIO(gzip.decompress(file.read())))
        before = b""
        while piece := file.read(_PIECE_BYTES):
            if any(self.in_text(text) for text in _decoded(before + piece, start)):
                return True
            before = piece[-_OVERLAP_BYTES:]
        return False


def _bare(text: str) -> str:
    return _IGNORED.sub("", folded(text))


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("\\u", "")).decode("utf-16-be", "replace")


def _decoded(data: bytes, start: bytes) -> Iterator[str]:
    """The strings that bytes may be."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield data.decode("utf-16-le" if start.startswith(b"\xff\xfe") else "utf-16-be", "replace")
        return
    yield data.decode("utf-8", "ignore")
    if not data.isascii():
        yield data.decode("cp1252", "ignore")


def _strings_of(content: io.BytesIO | io.BufferedReader) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(content) as file:
        yield "\n".join(file.schema_arrow.names)
        names = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        for batch in file.iter_batches(8192, columns=names):
            for column in batch.columns:
                yield "\n".join(text for text in column.to_pylist() if text)
