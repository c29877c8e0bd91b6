"""Runs the commands in the console blocks of README and tutorial; `make examples` writes their output there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/tutorial.md")
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
HOME = "/home/you/pal"


def with_output(page: str, clone: Path) -> str:
    """The page with what its commands print, run one after another in `clone`, an empty directory."""
    (clone / "docs").symlink_to(ROOT / "docs")
    where = clone

    def run(block: re.Match[str]) -> str:
        nonlocal where
        parts = []
        for command in re.findall(r"^\$ (.*)$", block[0], re.MULTILINE):
            printed, where = run_command(command, where)
            parts.append(f"$ {command}\n{printed.replace(str(clone), HOME)}")
        return "".join(parts)

    return BLOCK.sub(run, page)


def run_command(command: str, where: Path) -> tuple[str, Path]:
    """What a command prints on the terminal, and the directory that it leaves the shell in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAL_", "PREFECT_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.NamedTemporaryFile("r") as left_in:
        subprocess_environment = {**kept, "PATH": path, "COLUMNS": "120", "LEFT_IN": left_in.name}
        script = f"set -e\n{command}\npwd > $LEFT_IN"
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=where,
            env=subprocess_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise RuntimeError(f"{command}: {ran.stdout}")
        return ran.stdout, Path(left_in.read().strip())


def without_numbers(page: str) -> str:
    """The page without what differs between machines and days: numbers, hashes and the width of columns."""
    return re.sub(r"[ \t]+", " ", re.sub(r"[0-9a-f]*\d[0-9a-f.,]*", "#", page))


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        with tempfile.TemporaryDirectory() as folder:
            page = (ROOT / name).read_text(encoding="utf-8")
            (ROOT / name).write_text(with_output(page, Path(folder).resolve()), encoding="utf-8", newline="\n")
