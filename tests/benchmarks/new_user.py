"""What a new user waits for: from a file with odd columns to predictions in it and a report, in six commands at most.

python tests/benchmarks/new_user.py ABC_DIR [--answers 110] [--keep DIR]

ABC_DIR has unlabeled_data/unlabeled_data.csv (id, text) and silver_labels.csv (id, label). 30,000 of the headlines are
written as UTF-16 with `;` between five columns. Questions are answered at once in a terminal, by the silver labels, so
that the whole wall time is waiting.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import os
import pty
import re
import resource
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

ROWS = 30_000
QUESTION = re.compile(r"\d+/\d+ · batch \S+\r?\n\r?\n  (.*?)\r?\n.*?1 related.*?\n", re.DOTALL)
AT_END = re.compile(r"All \d+ items are answered\.")
PAL = [sys.executable, "-m", "flows.cli.main"]
ROOT = Path(__file__).parents[2]


def write_texts(folder: Path, to: Path) -> dict[str, bool]:
    """Write the file of a new user; returns which texts are related."""
    with (folder / "silver_labels.csv").open(encoding="utf-8", newline="") as file:
        related = {row["id"]: row["label"] == "1" for row in csv.DictReader(file)}
    truth: dict[str, bool] = {}
    with (
        (folder / "unlabeled_data" / "unlabeled_data.csv").open(encoding="utf-8", newline="") as source,
        to.open("w", encoding="utf-16", newline="") as target,
    ):
        rows = csv.writer(target, delimiter=";")
        rows.writerow(["Nr.", "Quelle", "Schlagzeile", "Länge", "geprüft?"])
        for number, (item_id, text) in enumerate(csv.reader(source), start=1):
            if number > ROWS:
                break
            rows.writerow([number, "ABC; Sydney", text, len(text), "nein" if number % 3 else ""])
            truth[" ".join(text.split())] = related.get(item_id, False)
    return truth


def answer(master: int, truth: dict[str, bool], n: int) -> int:
    """Sit at the terminal of `pal loop` until n questions are answered; returns how many were."""
    seen, at, given = "", 0, 0
    while True:
        try:
            read = os.read(master, 65_536)
        except OSError:  # the program is gone
            return given
        seen += read.decode(errors="replace")
        while found := QUESTION.search(seen, at):
            at = found.end()
            if given == n:
                os.write(master, b"s")
                break
            os.write(master, b"1" if truth[" ".join(found[1].split())] else b"2")
            given += 1
        if found := AT_END.search(seen, at):
            at = found.end()
            os.write(master, b"s")


def run(name: str, arguments: list[str], where: Path, truth: dict[str, bool], n: int) -> int:
    """Run a command in a terminal, print what it cost; returns how many questions it had answered."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*PAL, *arguments], cwd=where, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    given = answer(master, truth, n)
    if process.wait():
        raise SystemExit(f"pal {' '.join(arguments)} ended with {process.returncode}")
    os.close(master)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"| `{name}` | {given} | {time.monotonic() - began:.1f} | {cpu:.1f} |", flush=True)
    return given


def main() -> None:
    """Print a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--answers", type=int, default=110)
    parser.add_argument("--keep", type=Path, help="Where to work; else a temporary directory.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        here = (arguments.keep or Path(temporary)).resolve()
        here.mkdir(exist_ok=True)
        truth = write_texts(arguments.folder, here / "texts.csv")
        print("| command | answers | wall s | CPU s |\n|---|---|---|---|")
        labels = ["--labels", "related,other", "--positive", "related", "--definition", "related: a disaster"]
        steps = {
            "init": [*labels, "news"],
            "import": ["../texts.csv"],
            "loop": ["--annotator", "anna"],
            "predict": ["--file", "../texts.csv", "--output", "../predictions.csv"],
            "report": [],
        }
        for name, options in steps.items():
            run(name, [name, *options], here if name == "init" else here / "news", truth, arguments.answers)


if __name__ == "__main__":
    main()
