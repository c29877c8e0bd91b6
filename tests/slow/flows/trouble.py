"""Every command on a full disk, on a read-only disk, at Ctrl-C and at SIGTERM: message, exit code, state afterwards.

As a script it prints the table: python tests/slow/flows/trouble.py
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
NEW_TEXTS = 400
COMMANDS: dict[str, str] = {
    "init": "init {spare}/made",
    "config": "config",
    "import": "import {spare}/new.csv",
    "strategies": "strategies",
    "sample": "sample --strategy outlier -n 5",
    "loop": "loop --annotator anna",
    "nightly": "nightly",
    "status": "status",
    "next": "next",
    "publish": "publish b0003-training --format doccano",
    "find": "find flood",
    "show": "show 1",
    "labels": "labels",
    "labels rename": "labels rename no never --yes",
    "labels merge": "labels merge no other --into no --yes",
    "labels retire": "labels retire other --yes",
    "labels split": "labels split no --into never,seldom --yes",
    "labels add": "labels add maybe --yes",
    "labels ask-again": "labels ask-again",
    "annotators": "annotators",
    "annotators rename": "annotators rename ben anna",
    "items edit": "items edit 1 --text corrected",
    "items erase": "items erase 1 --yes",
    "annotate": "annotate",
    "ingest": "ingest",
    "submit": "submit {spare}/batch.csv",
    "close": "close b0003-training",
    "review": "review",
    "agreement": "agreement",
    "history": "history 1",
    "models": "models",
    "promote": "promote m00010",
    "rollback": "rollback",
    "adapt": "adapt",
    "predict TEXT": "predict flood",
    "predict --file": "predict --file {spare}/new.csv",
    "predict --pool": "predict --pool --output {out}/pool.csv",
    "export": "export {out}/labels.csv",
    "report": "report",
    "backup": "backup {out}/kept",
    "restore": "restore {spare}/kept {out}/restored",
    "maintain": "maintain",
    "migrate": "migrate",
    "check": "check",
    "simulate": "simulate {spare}/labelled.csv --seeds 1 --iterations 1 --start 20 --batch 20 --jobs 1 -m random "
    "-o {out}/sim",
    "lake move": "lake move --catalog sqlite:{out}/c.sqlite --data {out}/data",
}
READS = {"config", "strategies", "status", "models", "predict TEXT", "predict --file", "export"}
"""Commands that work in a workspace that may not be written."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    message: str
    state: str = ""


def pal(arguments: str, root: Path, *, at_s: float = 0.0, number: int = 0) -> Ended:
    """Run a command in a workspace; send it a signal after some seconds where `number` names one."""
    command = [sys.executable, "-m", "flows.cli.main", *arguments.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PAL_WORKSPACE", None)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=root, env=environment, text=True, **streams)  # type: ignore[call-overload]
    if number:
        time.sleep(at_s)
        process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    return Ended(process.returncode, said)


def make_workspace(folder: Path) -> Path:
    """A workspace with a model, an open batch that is filled in, and files for the commands beside it."""
    spare, root = folder / "spare", folder / "workspace"
    spare.mkdir(parents=True)
    rows = [(f"{'flood' if k % 3 == 0 else 'council'} in town {k}", "yes" if k % 3 == 0 else "no") for k in range(120)]
    write(spare / "first.csv", [("id", "text"), *((f"{k}", text) for k, (text, _) in enumerate(rows[:90]))])
    write(spare / "new.csv", [("text",), *((f"a new text about town {k} {'x' * 200}",) for k in range(NEW_TEXTS))])
    write(spare / "labelled.csv", [("text", "label"), *rows])
    pal(f"init {root} --labels yes,no,other --positive yes", folder)
    toml = (root / "pal.toml").read_text(encoding="utf-8")
    for name, value in (("evaluation", 20), ("training", 20), ("size", 20)):
        toml = "\n".join(f"{name} = {value}" if line.startswith(f"{name} = ") else line for line in toml.split("\n"))
    (root / "pal.toml").write_text(toml, encoding="utf-8")
    pal(f"import {spare}/first.csv", root)
    for _ in range(2):
        pal("next -n 20", root)
        fill(newest_batch(root))
        pal("ingest", root)
    pal("next -n 6", root)
    fill(newest_batch(root))
    shutil.copy(newest_batch(root) / "batch.csv", spare)
    pal(f"backup {spare}/kept", root)
    return folder


def newest_batch(root: Path) -> Path:
    return max(path for path in (root / "batches").iterdir() if path.is_dir())


def fill(folder: Path) -> None:
    with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    labels = ["yes" if "flood" in row[0] else "no" for row in rows]
    filled_rows = [[row[0], label, row[2], "ben", *row[4:]] for row, label in zip(rows, labels, strict=True)]
    write(folder / "batch.csv", [header, *filled_rows])


def write(path: Path, rows: list[tuple[str, ...]] | list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@contextmanager
def small_disk(made: Path, megabytes: int = 24) -> Iterator[Path]:
    """A copy of a folder on a disk of its own.

    Raises:
        OSError: Nothing may be mounted here.
    """
    with tempfile.TemporaryDirectory() as where:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", where]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            raise OSError("nothing may be mounted here")
        try:
            yield shutil.copytree(made, Path(where) / "disk")
        finally:
            subprocess.run(["umount", "--lazy", where], check=True)


def filled(command: str, folder: Path) -> str:
    return COMMANDS[command].format(spare=folder / "spare", out=folder)


def on_full_disk(made: Path, command: str, left: int) -> Ended:
    """Run a command where so many bytes are left, then again with space; the state is that of `pal check` after it."""
    with small_disk(made) as folder:
        free = shutil.disk_usage(folder).free
        with (folder / "fill").open("wb") as file:
            file.write(bytes(max(0, free - left)))
        first = pal(filled(command, folder), folder / "workspace")
        (folder / "fill").unlink()
        again = pal(filled(command, folder), folder / "workspace").code if first.code else 0
        return Ended(first.code, first.message, state_of(folder / "workspace", again))


def on_read_only_disk(made: Path, command: str) -> Ended:
    """Run a command in a workspace that must not be written; what it makes goes elsewhere."""
    with small_disk(made) as folder, tempfile.TemporaryDirectory() as out:
        subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)
        arguments = COMMANDS[command].format(spare=folder / "spare", out=out)
        ended = pal(arguments, folder / "workspace")
        subprocess.run(["mount", "-o", "remount,rw", str(folder.parent)], check=True)
        return Ended(ended.code, ended.message, state_of(folder / "workspace"))


def interrupted(made: Path, command: str, number: int, at_s: float) -> Ended:
    """Run a command and send it a signal; then run it again."""
    with tempfile.TemporaryDirectory() as where:
        folder = shutil.copytree(made, Path(where) / "copy")
        first = pal(filled(command, folder), folder / "workspace", at_s=at_s, number=number)
        again = pal(filled(command, folder), folder / "workspace").code if first.code else 0
        return Ended(first.code, first.message, state_of(folder / "workspace", again))


def state_of(root: Path, again: int = 0) -> str:
    """`whole` where `pal check` finds no damage and the command ends well when it is run again."""
    if not (root / "pal.toml").is_file():
        return "no workspace"
    checked = pal("check", root)
    if checked.code:
        return f"DAMAGED: {checked.message}"
    return "whole" if not again else f"whole; again: exit {again}"


def main() -> None:
    """Print the table of all commands."""
    with tempfile.TemporaryDirectory() as where:
        made = make_workspace(Path(where) / "made")
        wanted = sys.argv[1:] or list(COMMANDS)
        for command in wanted:
            ended = {
                "full, 8 kB left": on_full_disk(made, command, 8_192),
                "read-only": on_read_only_disk(made, command),
            }
            for number, at_s in ((signal.SIGINT, 0.1), (signal.SIGINT, 0.8), (signal.SIGTERM, 0.8)):
                ended[f"{number.name} {at_s} s"] = interrupted(made, command, number, at_s)
            for trouble, one in ended.items():
                last = [line for line in one.message.splitlines() if line.strip() and not line.startswith("Hint")][-1:]
                bad = "  TRACEBACK" if "Traceback" in one.message or "Unexpected" in one.message else ""
                print(
                    f"{command} | {trouble} | {one.code} | {''.join(last)[:110]} | {one.state[:300]}{bad}", flush=True
                )


if __name__ == "__main__":
    main()
