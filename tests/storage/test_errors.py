"""Errors: one tree, each with what happened and what to type."""

from __future__ import annotations

import errno
import pickle
import sqlite3
from pathlib import Path

import duckdb
import pytest

from storage import errors
from storage.errors import PalError
from storage.lake.batches import OvertakenError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PalError)]


@pytest.mark.parametrize("kind", [*KINDS, OvertakenError])
def test_every_error_says_what_happened_and_then_what_to_type(kind: type[PalError]) -> None:
    error = kind("12 available / 100 requested.", hint="pal next -n 12")
    assert isinstance(error, PalError)
    assert (error.what, error.hint) == ("12 available / 100 requested.", "pal next -n 12")
    assert str(error) == "12 available / 100 requested.\nHint: pal next -n 12"


def test_the_tree_in_the_docstring_names_every_error_and_no_other() -> None:
    named = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert named == {kind.__name__ for kind in KINDS}


def test_an_error_without_a_hint_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="hint"):
        PalError("something happened.")  # type: ignore[call-arg]


def test_an_error_crosses_a_process_whole() -> None:
    error = pickle.loads(pickle.dumps(errors.BatchError("gone.", hint="pal next")))
    assert isinstance(error, errors.BatchError)
    assert str(error) == "gone.\nHint: pal next"


def test_a_loop_of_symbolic_links_is_named_as_such_by_every_way_to_meet_it(tmp_path: Path) -> None:
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for meet in (Path.resolve, Path.read_bytes, lambda path: (path / "a").resolve()):
        with pytest.raises((OSError, RuntimeError)) as raised:
            meet(loop)
        found = errors.disk_error(raised.value)
        assert found is not None
        assert str(loop) in found.what


@pytest.mark.parametrize("path", [None, "tests"])
def test_a_full_disk_is_recognized_whoever_reports_it(path: str | None) -> None:
    system = OSError(errno.ENOSPC, "No space left on device", path)
    for error in (system, sqlite3.OperationalError("database or disk is full"), duckdb.IOException(str(system))):
        assert isinstance(errors.disk_error(error), errors.DiskError)
