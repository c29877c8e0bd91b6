"""The journal: nothing that was answered is lost, and what is broken is said."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.formats.journal import Journal, read_journal
from storage.errors import BatchError
from storage.records import Answer

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ANSWER = Answer("i1", "related", "anna", note="why", seconds=1.5, annotated_at=WHEN)


def journal_of(path: Path, *answers: Answer) -> bytes:
    with Journal(path) as journal:
        for answer in answers:
            journal.append("b0001", f"hash-{answer.item_id}", answer)
    return path.read_bytes()


def test_a_line_has_the_promised_fields(tmp_path: Path) -> None:
    content = journal_of(tmp_path / "j.jsonl", ANSWER)
    assert content.endswith(b"}\n")
    item = {"batch_id": "b0001", "item_id": "i1", "text_hash": "hash-i1"}
    given = {"answer": "related", "note": "why", "annotator": "anna", "seconds": 1.5}
    assert json.loads(content) == {**item, **given, "annotated_at": "2026-01-02T03:04:05.000678+00:00"}


def test_times_are_written_in_utc_and_an_absent_time_is_now(tmp_path: Path) -> None:
    local = WHEN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    before = datetime.now(UTC)
    journal_of(tmp_path / "j", Answer("a", "x", "anna", annotated_at=local), Answer("b", "x", "anna"))
    first, second = (line.answer.annotated_at for line in read_journal(tmp_path / "j"))
    assert '"2026-01-02T03:04:05.000678+00:00"' in (tmp_path / "j").read_text(encoding="utf-8")
    assert first == WHEN
    assert second is not None
    assert before <= second <= datetime.now(UTC)


def test_changed_answers_keep_their_history_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_of(path, ANSWER, Answer("i2", "skip", "anna"))
    journal_of(path, Answer("i1", "not_related", "anna"))
    lines = read_journal(path)
    assert [(line.answer.item_id, line.answer.answer, line.row) for line in lines] == [
        ("i1", "related", 1),
        ("i2", "skip", 2),
        ("i1", "not_related", 3),
    ]
    assert lines[0].answer == ANSWER
    with Journal(path) as journal:
        assert {item_id: answer.answer for item_id, answer in journal.latest.items()} == {
            "i1": "not_related",
            "i2": "skip",
        }


anything = st.text(st.characters(codec=None))  # lone surrogates too
text = st.text(min_size=1).filter(str.strip)


@given(st.lists(st.tuples(text, text, anything, anything, st.none() | st.floats(0, 1e6)), max_size=5))
def test_whatever_is_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("j") / "j.jsonl"
    answers = [Answer(i, a, who, note, s, WHEN) for i, a, who, note, s in rows]
    journal_of(path, *answers)
    assert [line.answer for line in read_journal(path)] == answers


def test_wherever_a_write_is_torn_only_that_line_is_lost_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    second = Answer("i2", "related", "anna", note="Zoë", annotated_at=WHEN)
    whole = journal_of(path, ANSWER, second)
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = ["i1", "i2"] if end >= len(whole) - 1 else ["i1"]  # the last byte is only the line end
        assert [line.answer.item_id for line in read_journal(path)] == kept
        assert path.read_bytes() == whole[:end], "reading must not change the file"
        journal_of(path, Answer("i3", "skip", "anna"))
        assert [line.answer.item_id for line in read_journal(path)] == [*kept, "i3"]


def test_a_file_that_is_one_torn_line_becomes_an_empty_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"batch_id": "b0')
    assert read_journal(path) == []
    assert journal_of(path) == b""
    whole = journal_of(path, ANSWER)
    path.write_bytes(whole + bytes(40))
    assert journal_of(path) == whole, "a block of zeros after a power cut is torn too"


GOOD = json.loads('{"batch_id":"b","item_id":"i","text_hash":"h","answer":"a","note":"","annotator":"x","seconds":1}')
GOOD["annotated_at"] = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("broken", "values"),
    [
        ('{"batch_id": "b0', []),
        ("[]", []),
        (json.dumps({k: v for k, v in GOOD.items() if k not in ("item_id", "note")}), ["item_id", "note"]),
        (json.dumps(GOOD | {"answer": 1}), ["answer"]),
        (json.dumps(GOOD | {"answer": " "}), ["answer"]),
        (json.dumps(GOOD | {"seconds": "1"}), ["seconds", "'1'"]),
        (json.dumps(GOOD | {"seconds": True}), ["seconds", "True"]),
        (json.dumps(GOOD | {"seconds": float("nan")}), ["seconds", "nan"]),
        (json.dumps(GOOD | {"annotated_at": "yesterday"}), ["yesterday"]),
        (json.dumps(GOOD | {"annotated_at": "2026-01-02T03:04:05"}), ["annotated_at", "2026"]),
    ],
)
def test_one_broken_line_is_named_with_file_and_row(tmp_path: Path, broken: str, values: list[str]) -> None:
    path = tmp_path / "answers-anna.jsonl"
    good = json.dumps(GOOD)
    path.write_text(f"{good}\n\n{broken}\n{good}\n", encoding="utf-8", newline="\n")
    before = path.read_bytes()
    for attempt in (lambda: read_journal(path), lambda: Journal(path)):
        with pytest.raises(BatchError) as caught:
            attempt()
        place, _, told = caught.value.what.partition("row 3")
        assert "answers-anna.jsonl" in place
        assert all(value in told for value in values)
    assert path.read_bytes() == before


def test_a_whole_but_wrong_last_line_is_an_error_and_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(GOOD | {"seconds": "1"}), encoding="utf-8")
    with pytest.raises(BatchError, match="row 1"):
        Journal(path)
    assert path.read_bytes()


def test_a_file_saved_by_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([json.dumps(GOOD).encode()] * 2) + b"\r\n\r\n")
    assert [line.row for line in read_journal(path)] == [1, 2]


def test_every_answer_is_synced_and_a_new_file_syncs_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    real = os.fsync

    def spy(handle: int) -> None:
        real(handle)
        state = os.fstat(handle)
        synced.append((state.st_ino, state.st_size))

    monkeypatch.setattr(os, "fsync", spy)
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        if os.name == "posix":
            assert [inode for inode, _ in synced] == [tmp_path.stat().st_ino]
        for n in range(3):
            journal.append("b", "h", Answer(f"i{n}", "related", "anna"))
            assert synced[-1] == (path.stat().st_ino, path.stat().st_size)
    count = len(synced)
    Journal(path).close()
    assert len(synced) == count, "nothing is new when an old journal is opened"


def test_a_missing_folder_and_a_missing_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=rf"j\.jsonl.*{os.strerror(errno.ENOENT)}"):
        Journal(tmp_path / "b0001" / "j.jsonl")
    with pytest.raises(BatchError, match=rf"j\.jsonl.*{os.strerror(errno.ENOENT)}"):
        read_journal(tmp_path / "j.jsonl")
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
from pathlib import Path
from annotation.formats.journal import Journal
from storage.errors import BatchError
from storage.records import Answer
path = Path(sys.argv[1])
with Journal(path) as journal:
    journal.append("b", "h", Answer("i1", "related", "anna"))
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            journal.append("b", "h", Answer("i2", "related", "anna"))
        except BatchError as error:
            print("refused:", error.what)
        assert path.stat().st_size == size and "i2" not in journal.latest
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.append("b", "h", Answer("i3", "related", "anna"))
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_write_that_fails_halfway_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.count("refused:")) == (0, 2), ran.stderr
    assert [line.answer.item_id for line in read_journal(path)] == ["i1", "i3"]
