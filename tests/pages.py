"""The pages of docs/ that are written by the code: `make docs` writes them, tests/test_docs.py compares them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.config.template import settings_page
from tasks.sampling.mixer import all_strategies, as_markdown

DOCS = Path(__file__).parents[1] / "docs"


def commands_page() -> str:
    """Every command with its arguments, options and example, from the help texts."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "flows.cli.commands",
        "utils",
        "docs",
        "--name",
        "pal",
        "--title",
        "Commands",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=DOCS.parent).stdout


def pages() -> dict[str, str]:
    """Each generated page by its name."""
    return {
        "commands.md": commands_page(),
        "pal-toml.md": settings_page() + "\n",
        "strategies.md": as_markdown(all_strategies()) + "\n",
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8", newline="\n")
