"""Every message is worded as tests/messages.txt has it."""

from __future__ import annotations

from pathlib import Path

from messages import messages


def test_errors_and_log_lines_are_worded_as_in_the_snapshot() -> None:
    snapshot = Path(__file__).with_name("messages.txt").read_text(encoding="utf-8").splitlines()
    assert messages() == snapshot, "write it again: python tests/messages.py > tests/messages.txt; and read the changes"
