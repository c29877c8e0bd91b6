"""Which files count: neither hidden ones nor ways out, the manifest last, and what no disk takes is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from storage.files.folders import beside, files_in, is_in, names_in, names_to_bring, published
from storage.files.object_store import Stored

GOOD = ["batches/b1/a.csv", "batches/b1/zz.csv", "batches/b1/manifest.json"]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "..\\x", "deep/x", "/x"])
def test_a_way_out_of_a_folder_and_what_is_hidden_is_not_in_it(name: str) -> None:
    assert not is_in(f"batches/b1/{name}", "batches/b1")
    assert names_in([*GOOD, f"batches/b1/{name}"], "batches/b1") == GOOD


def test_a_published_folder_is_one_with_a_manifest_directly_in_its_parent() -> None:
    others = ["batches/b2/a.csv", "batches/.b3/manifest.json", "batches/deep/b4/manifest.json", "batches/manifest.json"]
    assert published([*GOOD, *others, "batches/b0/manifest.json"], "batches") == ["batches/b0", "batches/b1"]


def test_local_files_come_with_the_manifest_last_and_a_folder_that_is_missing_has_none(tmp_path: Path) -> None:
    assert files_in(tmp_path / "none") == []
    for name in ("manifest.json", "zz.csv", ".zz.csv.1.part", "a.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in files_in(tmp_path)] == ["a.csv", "zz.csv", "manifest.json"]


def test_what_is_too_long_or_too_large_to_bring_is_left_and_told(caplog: pytest.LogCaptureFixture) -> None:
    long, large = f"inbox/{'ü' * 101}.csv", "inbox/film.mov"
    listing = {"inbox/a.csv": Stored(5, 0), long: Stored(5, 0), large: Stored(2_000_000_000, 0)}
    with caplog.at_level(logging.WARNING):
        assert names_to_bring(listing, "inbox") == ["inbox/a.csv"]
    told = [record.getMessage() for record in caplog.records]
    assert any(large in line and "2,000,000,000 bytes" in line for line in told)
    assert any(long in line and "200 bytes" in line for line in told)


def test_a_mark_is_that_of_the_content_and_given_once() -> None:
    once = beside("batch.csv", b"1")
    assert beside(once, b"1") == once
    assert len({once, beside("batch.csv", b"2"), beside("batch", b"1"), "batch.csv"}) == 4
    assert once.endswith(".csv")
