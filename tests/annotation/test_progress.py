"""The progress bar: seen at a terminal, silent elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.reporting.progress import progress

ROOT = Path(__file__).parents[2]
SHOW = """
from tasks.reporting.progress import progress
with progress("scoring", 4) as done:
    done(2); done(4)
print("after")
"""


def test_nothing_is_written_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("scoring", 4) as done:
        done(2)
        done(4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_terminal_shows_the_bar_on_standard_error_and_keeps_standard_output_clean() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHOW]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True, text=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert ran.stdout == "after\n"
    assert "scoring" in shown
    assert "100%" in shown
