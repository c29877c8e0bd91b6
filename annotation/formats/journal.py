"""The journal of one annotator's answers in one batch; every answer is appended before the next question."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotation.label_set import safe_name
from storage.errors import BatchError
from storage.records import Answer


@dataclass(frozen=True)
class JournalLine:
    """One line of a journal.

    Attributes:
        batch_id: The batch of the item.
        text_hash: Hash of the text that was shown.
        answer: The answer, its annotator and its time.
        row: The line number, from 1.
        workspace_id: The workspace of the batch; empty if the line does not name it.
    """

    batch_id: str
    text_hash: str
    answer: Answer
    row: int
    workspace_id: str = ""


class Journal:
    """A file to which answers are appended, one JSON object per line; open it, append, close it (or use `with`).

    An incomplete last line, left by a killed process, is removed when the journal is opened.

    Args:
        workspace_id: The workspace of the batch, recorded in every line.

    Attributes:
        path: The file.
        latest: The last answer to each item, by item_id.

    Raises:
        BatchError: The file cannot be opened for writing, or a line before the last is malformed.
    """

    def __init__(self, path: Path, workspace_id: str = "") -> None:
        self.path, self._workspace_id = path, workspace_id
        # First and last byte of each appended line, its answer, and the answer that it replaced.
        self._appended: list[tuple[int, int, Answer, Answer | None]] = []
        created = not path.exists()
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            self.latest = self._repair()
            if created:
                _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, batch_id: str, text_hash: str, answer: Answer) -> None:
        """Append one answer; it is on disk when this returns.

        An answer without a time gets the present time.

        Raises:
            BatchError: It could not be written, for example to a full disk; the file is unchanged.
        """
        line = {
            "batch_id": batch_id,
            "item_id": answer.item_id,
            "text_hash": text_hash,
            "answer": answer.answer,
            "note": answer.note,
            "annotator": answer.annotator,
            "seconds": answer.seconds,
            "annotated_at": (answer.annotated_at or datetime.now(UTC)).astimezone(UTC).isoformat(),
        }
        line |= {"workspace_id": self._workspace_id} if self._workspace_id else {}
        # UTF-8 cannot encode a lone surrogate; the backslash form is its JSON escape.
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        start = self._write(data)
        self._appended.append((start, start + len(data), answer, self.latest.get(answer.item_id)))
        self.latest[answer.item_id] = answer

    def undo(self) -> Answer | None:
        """Remove the last line appended by this object and return its answer; None if there is no such line at the end.

        Raises:
            BatchError: The file cannot be written.
        """
        if not self._appended or os.fstat(self._file.fileno()).st_size != self._appended[-1][1]:
            return None
        start, _, undone, before = self._appended.pop()
        try:
            self._file.truncate(start)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if before:
            self.latest[undone.item_id] = before
        else:
            del self.latest[undone.item_id]
        return undone

    def close(self) -> None:
        """Close the file; every answer is on disk already."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repair(self) -> dict[str, Answer]:
        lines, n_bytes, has_line_end = _scan(self.path)
        if n_bytes < self.path.stat().st_size:
            self._file.truncate(n_bytes)
            os.fsync(self._file.fileno())
        if not has_line_end:
            self._write(b"\n")
        return {line.answer.item_id: line.answer for line in lines}

    def _write(self, data: bytes) -> int:
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written")
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise _unwritable(self.path, error) from error
        return size


def read_journal(path: Path) -> list[JournalLine]:
    """Read all answers of a journal in the order given; the last answer to an item counts.

    Blank lines and an incomplete last line (after a crash) are left out.

    Raises:
        BatchError: The file cannot be read, or another line is malformed; the error names file and row.
    """
    return _scan(path)[0]


def journal_path(batch_folder: Path, annotator: str) -> Path:
    """Path of an annotator's journal in a batch's folder; distinct names have distinct files on every file system.

    >>> journal_path(Path("b0001"), "anna").name
    'answers-anna.jsonl'
    >>> journal_path(Path("b0001"), "Zoë / QA").name
    'answers-zo-qa~404a85198335.jsonl'
    """
    return batch_folder / f"answers-{safe_name(annotator)}.jsonl"


def _scan(path: Path) -> tuple[list[JournalLine], int, bool]:
    """The lines, the number of bytes without an incomplete last line, and whether these end with a line end."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BatchError(
            f"The journal {path} cannot be read: {error.strerror or error}.", hint="Check the path and its permissions."
        ) from error
    lines = []
    raw_lines = content.split(b"\n")
    for row, raw in enumerate(raw_lines, start=1):
        if not raw.strip():
            continue
        try:
            lines.append(_line(raw.removeprefix(b"\xef\xbb\xbf") if row == 1 else raw, row))
        except (ValueError, OverflowError, RecursionError) as error:
            # An incomplete JSON object never parses, so a truncated line is always recognized.
            if row == len(raw_lines) and isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                return lines, len(content) - len(raw), True
            what = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)[:200]
            raise BatchError(
                f"{path}, row {row}: {what}.", hint="Correct or delete that line; the other lines are kept."
            ) from error
    return lines, len(content), not raw_lines[-1]


def _line(raw: bytes, row: int) -> JournalLine:
    try:
        values = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    names = ("batch_id", "item_id", "text_hash", "answer", "note", "annotator", "annotated_at")
    if wrong := [name for name in names if not isinstance(values.get(name), str)]:
        raise ValueError(f"no text in {', '.join(wrong)}")
    if empty := [name for name in ("batch_id", "item_id", "text_hash", "answer") if not values[name].strip()]:
        raise ValueError(f"{', '.join(empty)} is empty")
    answer = Answer(
        values["item_id"],
        values["answer"],
        values["annotator"],
        note=values["note"],
        seconds=_seconds(values.get("seconds")),
        annotated_at=_time(values["annotated_at"]),
    )
    workspace_id = values.get("workspace_id")
    workspace_id = workspace_id.strip() if isinstance(workspace_id, str) else ""
    return JournalLine(values["batch_id"], values["text_hash"], answer, row, workspace_id)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"seconds is {value!r}, not a number")
    return float(value)


def _time(value: str) -> datetime:
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError(f"annotated_at is {value!r}, which has no time zone")
    return time.astimezone(UTC)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot sync a folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> BatchError:
    return BatchError(
        f"The journal {path} cannot be written: {error.strerror or error}.",
        hint="Check the folder, its permissions and the free disk space, then start again; earlier answers are saved.",
    )
