"""README and tutorial show what their commands print."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples import PAGES, ROOT, with_output, without_numbers


@pytest.mark.parametrize("name", PAGES)
def test_every_command_on_the_page_runs_and_prints_what_stands_there(name: str, tmp_path: Path) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert page.count("\n$ pal ") >= 4
    assert without_numbers(with_output(page, tmp_path)) == without_numbers(page), "write it again: make examples"
