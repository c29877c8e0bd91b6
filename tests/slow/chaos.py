"""A workspace in use while everything goes wrong: what was acknowledged must be in the lake, once, at the end.

    python tests/slow/chaos.py 30

Two annotators hand answers in (in place, by the inbox, slowly, as a zip, workbook or page) and correct them, a third
types in the terminal, and random commands run beside each other, now and then with a Prefect server and worker.
Commands, worker, server and all of them are killed at random; where faketime is installed, commands run on other days;
where a disk may be mounted, it is full now and then.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from urllib.error import URLError

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from live import free_port  # noqa: E402
from openpyxl import Workbook  # noqa: E402
from projects import pal_toml  # noqa: E402

from annotation.synthetic import synthetic_headlines  # noqa: E402
from flows.server.prefect_api import start_run  # noqa: E402
from flows.server.processes import found_up  # noqa: E402
from storage.errors import PalError  # noqa: E402
from storage.lake.models import all_models, production_model  # noqa: E402
from storage.lake.schema import current_labels, standing_answers  # noqa: E402
from tasks.learning.stored_model import read_model  # noqa: E402
from tasks.project import open_project  # noqa: E402
from tasks.repair import check_project  # noqa: E402

N_ITEMS, DISK_MB = 3_000, 160
COMMANDS = ("ingest", "ingest", "ingest", "next", "next", "nightly", "status", "maintain", "check", "report", "backup")
WAYS = ("place", "inbox", "slow", "zip", "workbook", "page")
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
OURS = re.compile(r"Traceback|Unexpected error|Fatal Python error: (?!init_import_site)")
"""Python itself prints a traceback where a signal comes before the first line of the program."""


@dataclass
class Outcome:
    """What a campaign did, and what must all be 0 at its end."""

    commands: int = 0
    kills: int = 0
    server_kills: int = 0
    clock_jumps: int = 0
    full_disks: int = 0
    corrections: int = 0
    acknowledged: int = 0
    batches: int = 0
    models: int = 0
    promotions: int = 0
    lost: int = 0
    doubled: int = 0
    overruled: int = 0
    two_splits: int = 0
    leaked: int = 0
    half_models: int = 0
    damaged: int = 0
    tracebacks: int = 0
    messages: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        names = ("lost", "doubled", "overruled", "two_splits", "leaked", "half_models", "damaged", "tracebacks")
        return sum(getattr(self, name) for name in names)


class Campaign:
    """One campaign in a folder.

    Args:
        folder: Where the workspace is made; on a disk of its own where that may be filled up.
    """

    def __init__(self, folder: Path, seed: int, *, may_fill: bool) -> None:
        self.root, self.folder, self.may_fill = folder / "workspace", folder, may_fill
        self.random, self.outcome, self.lock = random.Random(seed), Outcome(), threading.Lock()
        self.ledger: dict[tuple[str, str], str] = {}
        self.truth: dict[str, str] = {}
        self.correctable: dict[str, dict[str, str]] = {}
        self.over = threading.Event()
        self.n_files = 0

    def run(self, seconds: float) -> Outcome:
        """Go on for so long, come to rest, and count."""
        self._prepare()
        doings: list[Callable[[], None]] = [self._command, self._command, self._hand_in, self._hand_in, self._type]
        doings += [self._correct, self._serve]
        doings += [self._fill_disk] if self.may_fill else []
        threads = [threading.Thread(target=self._repeat, args=(doing,)) for doing in doings]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        self._pal("down")
        for _ in range(3):
            self._pal("ingest")
        self._count()
        return self.outcome

    def _repeat(self, doing: Callable[[], None]) -> None:
        while not self.over.wait(self.random.random()):
            try:
                doing()
            except (OSError, PalError):  # the disk is full, or a file or the server is gone: nothing was acknowledged
                continue

    def _prepare(self) -> None:
        rows = synthetic_headlines(N_ITEMS).to_pylist()
        self.truth = {row["item_id"]: row["label"] for row in rows}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "text"), *((row["item_id"], row["text"]) for row in rows)])
        self._pal("init", str(self.root))
        (self.root / "pal.toml").write_text(pal_toml(20, 0, 20).replace("size = 100", "size = 20"), encoding="utf-8")
        self._pal("import", "../texts.csv")
        for _ in range(3):  # the first model is there before anything goes wrong
            self._pal("next")
            folder = max(path for path in (self.root / "batches").iterdir() if path.is_dir())
            with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                row |= {"label": self.truth[row["item_id"]], "annotator": "first"}
                self.ledger[row["item_id"], "first"] = row["label"]
            (folder / "batch.csv").write_bytes(_as_csv(rows))
            self._pal("ingest")

    def _pal(self, *arguments: str, stdin: str = "", kill: bool = False) -> int:
        command = [sys.executable, "-m", "flows.cli.main", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PAL_WORKSPACE": ""}
        del environment["PAL_WORKSPACE"]
        if kill and FAKETIME and self.random.random() < 0.4:
            clock = {"FAKETIME": f"{self.random.randint(-400, 400):+}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            environment |= clock | {"NO_FAKE_STAT": "1", "LD_PRELOAD": str(FAKETIME)}
            self.outcome.clock_jumps += 1
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            process = subprocess.Popen(
                command,
                cwd=self.root if self.root.is_dir() else self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with contextlib.suppress(BrokenPipeError), process.stdin or contextlib.nullcontext() as given:
                if given is not None:
                    given.write(stdin)
            if kill and self.random.random() < 0.6:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.random.uniform(0.3, 6.0))
                if process.poll() is None:
                    process.send_signal(self.random.choice(SIGNALS))
                    self.outcome.kills += 1
            code = process.wait(600)
            said.seek(0)
            text = said.read()
        self.outcome.commands += 1
        if OURS.search(text) and arguments[0] != "up":  # its errors quote the log of Prefect's server
            self.outcome.tracebacks += 1
            self.outcome.messages.append(f"{' '.join(arguments)}: {text[-1500:]}")
        return code

    def _command(self) -> None:
        name = self.random.choice(COMMANDS)
        more = {"backup": [str(self.folder / "kept")], "next": ["--another"] if self.random.random() < 0.3 else []}
        self._pal(name, *more.get(name, []), kill=self.random.random() < 0.7)

    def _serve(self) -> None:
        """Bring up server and worker, start a night on the worker, then kill one of them or all."""
        self.over.wait(self.random.uniform(5, 30))
        self._pal("up", "--detach", "--port", str(free_port()))
        project = open_project(self.root)
        up = found_up(project)
        if up is None:
            return
        with contextlib.suppress(URLError):
            start_run(up.api, "nightly")
        self.over.wait(self.random.uniform(2, 30))
        groups = {name: pid for name, (pid, _) in up.groups.items()} | {"up": up.pid}
        chosen = self.random.choice([*([name] for name in groups), list(groups)])
        for name in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(groups[name], signal.SIGKILL)
                self.outcome.server_kills += 1
        self.over.wait(self.random.uniform(1, 20))
        if self.random.random() < 0.5:
            self._pal("down")

    def _correct(self) -> None:
        """Give another answer to an item whose first answer is in the lake: it counts from now on."""
        self.over.wait(self.random.uniform(2, 10))
        journal = (self.root / "reports" / "ingested-files.jsonl").read_text(encoding="utf-8")
        for name in [name for name in self.correctable if f"/{name}." in journal][:1]:
            row = self.correctable.pop(name)
            row["label"] = {"related": "not_related", "not_related": "related"}[row["label"]]
            with self.lock:
                self._put(self.root / "inbox" / f"again-{name}.csv", _as_csv([row]))
                self.ledger[row["item_id"], row["annotator"]] = row["label"]
                self.outcome.corrections += 1

    def _hand_in(self) -> None:
        """Answer some items of an open batch that this annotator has not answered yet, and hand them in."""
        annotator = self.random.choice(("anna", "ben"))
        folders = sorted(path.parent for path in (self.root / "batches").glob("[!.]*/manifest.json"))
        if not folders:
            return
        folder = self.random.choice(folders[-3:])
        with self.lock:
            with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            own = [k for k, row in enumerate(rows) if (row["item_id"], annotator) not in self.ledger]
            chosen = self.random.sample(own, min(len(own), self.random.randint(3, 12)))
            given = {rows[k]["item_id"]: self.truth[rows[k]["item_id"]] for k in chosen}
            if not given:
                return
            way = self.random.choice(WAYS)
            for k in chosen:
                rows[k] |= {"label": given[rows[k]["item_id"]], "annotator": annotator}
            content = _as_csv([rows[k] for k in chosen])
            self.n_files += 1
            name = f"{annotator}-{self.n_files}"
            if way == "place":
                self._put(folder / f"{name}.csv", content)
            elif way == "inbox":
                self._put(self.root / "inbox" / f"{name}.csv", content)
                self.correctable[name] = dict(rows[chosen[0]])
            elif way == "workbook":
                self._put(self.root / "inbox" / f"{name}.xlsx", _as_workbook([rows[k] for k in chosen]))
            elif way == "page":
                self._put(self.root / "inbox" / f"{name}.jsonl", _as_journal([rows[k] for k in chosen]))
            elif way == "zip":
                part = self.folder / f"{name}.part"
                with zipfile.ZipFile(part, "w") as packed:
                    packed.writestr(f"{name}.csv", content)
                part.replace(self.root / "inbox" / f"{name}.zip")
            self.ledger |= {(item_id, annotator): answer for item_id, answer in given.items()}
        if way == "slow":
            try:
                with (self.root / "inbox" / f"{name}.csv").open("wb") as file:
                    for start in range(0, len(content), 300):
                        file.write(content[start : start + 300])
                        file.flush()
                        time.sleep(0.2)
            except OSError:
                with self.lock:  # it never arrived whole
                    for item_id in given:
                        del self.ledger[item_id, annotator]
                (self.root / "inbox" / f"{name}.csv").unlink(missing_ok=True)
                raise

    def _put(self, place: Path, content: bytes) -> None:
        part = self.folder / f"{place.name}.part"
        part.write_bytes(content)
        part.replace(place)

    def _type(self) -> None:
        """Answer a few items in the terminal; the journal is what is acknowledged."""
        keys = "".join(f"{self.random.choice('01')}\n" for _ in range(self.random.randint(1, 4)))
        self._pal("annotate", "--annotator", "tess", stdin=f"{keys}s\n", kill=self.random.random() < 0.5)
        self.over.wait(3)

    def _fill_disk(self) -> None:
        wanted = self.outcome.commands + self.random.randint(4, 12)
        while self.outcome.commands < wanted and not self.over.wait(1):
            continue
        with (self.folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while self.may_fill and not self.over.is_set():
                file.write(bytes(min(1 << 20, max(4096, shutil.disk_usage(self.folder).free - 4096))))
        self.outcome.full_disks += 1
        self.over.wait(self.random.uniform(1, 6))
        (self.folder / "fill").unlink()

    def _journals(self) -> Iterator[tuple[tuple[str, str], str]]:
        for path in sorted((self.root / "batches").glob("*/answers-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # torn by a kill: nobody was told that it was kept
                    values = json.loads(line)
                    yield (values["item_id"], values["annotator"]), values["answer"]

    def _count(self) -> None:
        outcome, project = self.outcome, open_project(self.root)
        self.ledger |= dict(self._journals())
        store = project.workspace.store()
        rows = store.rows("SELECT item_id, annotator, answer, batch_id FROM lake.annotations")
        there = {(item_id, annotator) for item_id, annotator, *_ in rows}
        standing = {
            (item_id, annotator): answer
            for item_id, annotator, answer in store.rows(
                f"SELECT item_id, annotator, answer FROM ({standing_answers()})"
            )
        }
        outcome.acknowledged = len(self.ledger)
        lost = [key for key in self.ledger if key not in there]
        outcome.lost = len(lost)
        outcome.messages += [f"lost: {key}" for key in lost[:5]]
        twice = [key for key, n in Counter(row[:3] for row in rows if row[1] != "tess").items() if n > 1]
        outcome.doubled = len(twice)
        outcome.overruled = sum(standing.get(key, answer) != answer for key, answer in self.ledger.items())
        outcome.batches = int(store.rows("SELECT count(*) FROM lake.batches")[0][0])
        outcome.promotions = int(store.rows("SELECT count(*) FROM lake.decisions WHERE promoted = 1")[0][0])
        asked = store.rows(
            """SELECT item_id FROM lake.batch_items b JOIN lake.batches c USING (batch_id)
            WHERE purpose IN ('training', 'evaluation', 'validation') AND status <> 'closed'
            GROUP BY item_id HAVING count(DISTINCT coalesce(b.split, purpose)) > 1"""
        )
        outcome.two_splits = len(asked)
        held = {row[0] for row in store.rows(f"SELECT item_id FROM ({current_labels()}) WHERE split = 'evaluation'")}
        models = all_models(store)
        outcome.models = len(models)
        for model in models:
            labels = current_labels(model.lake_version)
            trained = store.rows(f"SELECT item_id FROM ({labels}) WHERE split = 'training' AND label NOT NULL")
            outcome.leaked += len({row[0] for row in trained} & held)
        current = production_model(store)
        for model in [current] if current else []:
            try:
                read_model(project.workspace.models / model.model_id)
            except PalError as error:
                outcome.half_models += 1
                outcome.messages.append(str(error))
        damaged = check_project(project).damaged
        outcome.damaged = len(damaged)
        outcome.messages += [f"{each.path}: {each.what}" for each in damaged]


def _as_workbook(rows: list[dict[str, str]]) -> bytes:
    book, content = Workbook(), BytesIO()
    for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
        book.worksheets[0].append(row)
    book.save(content)
    return content.getvalue()


def _as_journal(rows: list[dict[str, str]]) -> bytes:
    """What the page saves."""
    more = {"note": "", "seconds": 1.0, "annotated_at": "2026-01-01T00:00:00+00:00"}
    names = ("batch_id", "item_id", "text_hash", "annotator")
    lines = [{name: row[name] for name in names} | {"answer": row["label"]} | more for row in rows]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _as_csv(rows: list[dict[str, str]]) -> bytes:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")


def campaign(minutes: float, seed: int = 0) -> Outcome:
    """Run a campaign, on a small disk of its own where one may be mounted."""
    with tempfile.TemporaryDirectory() as where:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", where]
        mounted = (
            bool(shutil.which("mount")) and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
        try:
            return Campaign(Path(where), seed, may_fill=mounted).run(60 * minutes)
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", where], check=True)


def main() -> None:
    """Run a campaign of some minutes and print what it did; exit 1 where anything went wrong."""
    outcome = campaign(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0, int(time.time()))
    for name, value in asdict(outcome).items():
        if name != "messages":
            print(f"{name:<14}{value:>8,}")
    print(*outcome.messages[:20], sep="\n")
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
