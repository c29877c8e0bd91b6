"""What was seen is kept between processes; a content that a listing cannot show to be the same is not settled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from storage.files.mirror import Seen, SeenFiles
from storage.files.object_store import Stored


def last(root: str, local: Path) -> Seen | None:
    seen = SeenFiles(root, local)
    with seen.session():
        return seen.get("batches/b1/ü.csv")


def remember(local: Path, content: bytes, stored: Stored | None) -> None:
    seen = SeenFiles("s3://b/f", local)
    with seen.session():
        seen.remember("batches/b1/ü.csv", content, stored)


def test_what_was_seen_is_kept_for_this_store_alone_and_also_where_the_session_ends_early(tmp_path: Path) -> None:
    def interrupted() -> None:
        seen = SeenFiles("s3://b/f", tmp_path)
        with seen.session():
            seen.remember("batches/b1/ü.csv", b"1", Stored(1, 7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    kept = last("s3://b/f", tmp_path)
    assert kept.stored == Stored(1, 7)
    assert last("s3://b/other", tmp_path) is None


def test_a_file_is_settled_once_the_stores_clock_has_gone_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    young = Stored(1, int(now * 1e9))
    for later, stored, settled in ((0, young, False), (1, young, False), (2.5, young, True), (2.6, None, False)):
        monkeypatch.setattr("storage.files.mirror.time.time", lambda later=later: now + later)
        remember(tmp_path, b"1", stored)
        found = last("s3://b/f", tmp_path)
        assert found.settled is settled
    remember(tmp_path, b"1", Stored(1, int((now - 7200) * 1e9)))
    found = last("s3://b/f", tmp_path)
    assert found.settled, "nothing written now shows a time of hours ago"


def test_a_copy_is_removed_only_where_it_is_as_it_was_seen(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    for name in ("a.csv", "b.csv", "a-1.csv"):
        (tmp_path / "inbox" / name).write_text("1", encoding="utf-8")
    seen = SeenFiles("s3://b/f", tmp_path)
    with seen.session():
        seen.remember("inbox/a.csv", b"1", None, "a-1.csv")
        seen.remember("inbox/b.csv", b"another", None, "b.csv")
        for name in seen:
            seen.remove_copy(name)
        assert list(seen) == []
    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == ["a.csv", "b.csv"]
