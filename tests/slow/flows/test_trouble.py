"""Full and read-only disks, Ctrl-C and SIGTERM: one line, the right exit code, no damage. `trouble.py` has all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from trouble import READS, Ended, interrupted, make_workspace, on_full_disk, on_read_only_disk, small_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("trouble") / "made")


@pytest.fixture(scope="module")
def mounting(made: Path) -> None:
    try:
        with small_disk(made / "spare"):
            return
    except OSError as error:
        pytest.skip(str(error))


def check(ended: Ended) -> None:
    assert "Traceback" not in ended.message
    assert "Unexpected" not in ended.message
    assert ended.state == "whole", ended.message


@pytest.mark.parametrize("command", ["import", "ingest", "nightly", "backup", "export", "status", "lake move"])
def test_a_full_disk_is_named_and_afterwards_the_same_command_does_all(
    made: Path, mounting: None, command: str
) -> None:
    ended = on_full_disk(made, command, 8_192)
    check(ended)
    assert ended.code == 0 or "No space left" in ended.message


@pytest.mark.parametrize("command", ["import", "ingest", "maintain", *sorted(READS), "predict --pool"])
def test_on_a_read_only_disk_what_reads_works_and_what_writes_says_why_not(
    made: Path, mounting: None, command: str
) -> None:
    ended = on_read_only_disk(made, command)
    check(ended)
    assert (ended.code, "read-only" in ended.message) == ((0, False) if command in READS else (1, True)) or (
        command == "predict --pool" and ended.code == 0
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["import", "nightly", "backup", "report"])
def test_a_signal_ends_a_command_in_one_line(made: Path, command: str, number: signal.Signals) -> None:
    ended = interrupted(made, command, number, 0.8)
    check(ended)
    if ended.code:  # it may have been through before
        assert ended.code == 128 + number
        assert ended.message.splitlines()[-1].startswith(f"Interrupted by {number.name}")
