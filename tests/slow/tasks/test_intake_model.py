"""Which answer counts, by a simple model, in any order of hand-ins, corrections, contradictions, clocks, crashes."""

from __future__ import annotations

import atexit
import csv
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

from drafts import publish
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lake_rows import add_rows
from projects import project_of

import tasks.collect
from annotation.formats.journal import Journal, journal_path
from annotation.inbox import FRESH_S
from flows.cli.status import status_of
from storage.lake.batches import close_batch
from storage.lake.schema import OUT, current_labels, standing_answers
from storage.readers.spellings import folded, text_hash
from storage.records import Answer, BatchStatus, Purpose
from storage.workspace import Workspace
from tasks.collect import collect_answers
from tasks.sample import publish_batches

ITEMS = ("i1", "i2", "i3")
PEOPLE = ("anna", "ben")
SPELLINGS = {"anna": ("anna", "Anna ", "ＡNNA"), "ben": ("ben", "BEN", "be\u200bn")}
ANSWERS = ("related", "not_related", "unsure", "skip")
STEPS = ("claim", "check_file", "ingest_files", "put_away", "_record")
SHARED_MEMORY = Path("/dev/shm")
START = datetime(2026, 1, 1, tzinfo=UTC)

Key = tuple[str, str, str]
"""Batch, item and annotator."""


class Crash(BaseException):
    """The process is gone at this moment."""


@dataclass
class HandedIn:
    """A file that waits in the inbox, by the model."""

    name: str
    content: bytes
    answers: dict[Key, str]
    saved_at: datetime


@dataclass
class Model:
    """What counts: the last answer that was ingested; files that contradict each other wait.

    Attributes:
        said: The answers of each annotator in each batch, in the order of ingestion.
        order: (item, annotator) -> the answer that was ingested last, of any batch.
        settled: What the last adjudication of an item said.
        known: Contents that were ingested.
        waiting: Files of the inbox, by name.
        terminal: Answers in terminals that were not ingested yet, the oldest first.
    """

    order: dict[tuple[str, str], str] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)
    known: set[bytes] = field(default_factory=set)
    waiting: dict[str, HandedIn] = field(default_factory=dict)
    terminal: dict[tuple[str, str], list[tuple[str, str, datetime]]] = field(default_factory=dict)

    def ingest(self, adjudications: set[str]) -> None:
        """Take everything that waits."""
        fresh = {name: file for name, file in self.waiting.items() if file.content not in self.known}
        given: dict[Key, list[tuple[str, str, datetime, bool]]] = {}
        for name, file in fresh.items():
            for key, answer in file.answers.items():
                given.setdefault(key, []).append((name, answer, file.saved_at, False))
        for (batch_id, annotator), answers in self.terminal.items():
            for item_id, answer, at in answers:
                entries = given.setdefault((batch_id, item_id, annotator), [])
                entries[:] = [each for each in entries if not each[3]]
                entries.append((f"{batch_id} {annotator}", answer, at, True))
        refused = {name for entries in given.values() if contradicts(entries) for name, *_ in entries}
        for name in sorted(fresh.keys() - refused):
            if fresh[name].content not in self.known:
                self._count(fresh[name].answers, adjudications)
            self.known.add(fresh[name].content)
        for batch_id, annotator in sorted(self.terminal):
            if f"{batch_id} {annotator}" not in refused:
                last = {
                    (batch_id, item_id, annotator): given for item_id, given, _ in self.terminal[batch_id, annotator]
                }
                self._count(last, adjudications)
        self.terminal = {key: answers for key, answers in self.terminal.items() if " ".join(key) in refused}
        self.waiting = {name: file for name, file in self.waiting.items() if name in refused}

    def _count(self, answers: dict[Key, str], adjudications: set[str]) -> None:
        for (batch_id, item_id, annotator), answer in answers.items():
            self.order[item_id, annotator] = answer
            if batch_id in adjudications:
                self.settled[item_id] = answer

    def label(self, item_id: str) -> str | None:
        """What the answers say together."""
        if item_id in self.settled:
            return None if self.settled[item_id] in ("unsure", "skip") else self.settled[item_id]
        votes = [self.order[item_id, who] for who in PEOPLE if self.order.get((item_id, who), "skip") != "skip"]
        winner = votes[0] if votes and len(set(votes)) == 1 else None
        return None if winner == "unsure" else winner


def contradicts(entries: list[tuple[str, str, datetime, bool]]) -> bool:
    """Whether one annotator gives one item different answers, none of them a correction in the terminal."""
    files = {answer for _, answer, _, in_terminal in entries if not in_terminal}
    terminal = [(answer, at) for _, answer, at, in_terminal in entries if in_terminal]
    if len(files) > 1:
        return True
    if not files or not terminal or files == {terminal[0][0]}:
        return False
    return not all(terminal[0][1] > saved_at for *_, saved_at, in_terminal in entries if not in_terminal)


@cache
def prepared() -> Path:
    """A workspace with three items, asked in one batch; gone when the tests end."""
    root = Path(mkdtemp(prefix="pal-prepared-"))
    atexit.register(shutil.rmtree, root)
    workspace = Workspace(root)
    workspace.make()
    add_rows(workspace.store(), [(item_id, f"text of {item_id}") for item_id in ITEMS])
    publish(workspace.store(), *ITEMS, overlap=2)
    publish_batches(project_of(workspace))
    workspace.close()
    return root


class Intake(RuleBasedStateMachine):
    """A workspace and its model, side by side."""

    @initialize()
    def make(self) -> None:
        """Three items, asked in one batch."""
        self.root = Path(mkdtemp(prefix="pal-intake-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        shutil.copytree(prepared(), self.root, dirs_exist_ok=True)
        self.workspace = Workspace(self.root)
        self.project = project_of(self.workspace)
        self.asked = {"b0001-training": set(ITEMS)}
        self.adjudications: set[str] = set()
        self.model, self.clock, self.names = Model(), START, itertools.count()
        self.contents: list[tuple[bytes, dict[Key, str]]] = []

    def teardown(self) -> None:
        """Remove it."""
        if hasattr(self, "root"):
            self.workspace.close()
            shutil.rmtree(self.root)

    @rule(
        data=st.data(),
        answers=st.dictionaries(
            st.tuples(st.sampled_from(ITEMS), st.sampled_from(PEOPLE)), st.sampled_from(ANSWERS), min_size=1
        ),
    )
    def hand_in(self, data: st.DataObject, answers: dict[tuple[str, str], str]) -> None:
        """Put a new file into the inbox, its annotators named in any spelling."""
        batch_id = data.draw(st.sampled_from([*self.asked]))
        n, (_, one) = next(self.names), next(iter(answers))
        answers = {
            (item_id, who): answer
            for (item_id, who), answer in answers.items()
            if item_id in self.asked[batch_id] and (batch_id not in self.adjudications or who == one)
        }
        if not answers:
            return
        rows = [
            {"text": f"text of {item_id}", "label": answer, "note": "", "item_id": item_id, "batch_id": batch_id}
            | {"annotator": data.draw(st.sampled_from(SPELLINGS[who])), "file": f"{n}"}
            for (item_id, who), answer in answers.items()
        ]
        path = self.root / f"{n}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
        given = {(batch_id, item_id, who): answer for (item_id, who), answer in answers.items()}
        self.contents.append((path.read_bytes(), given))
        path.unlink()
        self._put(*self.contents[-1])

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def hand_in_again(self, data: st.DataObject) -> None:
        """Put the bytes of an earlier file into the inbox once more, under another name."""
        self._put(*data.draw(st.sampled_from(self.contents)))

    def _put(self, content: bytes, answers: dict[Key, str]) -> None:
        name = f"{next(self.names):04}.csv"
        path = self.workspace.inbox / name
        path.write_bytes(content)
        os.utime(path, (self.clock.timestamp(), self.clock.timestamp()))
        self.model.waiting[name] = HandedIn(name, content, answers, self.clock)
        self.clock += timedelta(minutes=1)

    @rule(data=st.data(), item_id=st.sampled_from(ITEMS), who=st.sampled_from(PEOPLE), answer=st.sampled_from(ANSWERS))
    def answer_in_terminal(self, data: st.DataObject, item_id: str, who: str, answer: str) -> None:
        """Answer an item in the terminal."""
        batch_id = data.draw(st.sampled_from([name for name, items in self.asked.items() if item_id in items]))
        with Journal(journal_path(self.workspace.batches / batch_id, who)) as journal:
            given = Answer(item_id, answer, who, annotated_at=self.clock)
            journal.append(batch_id, text_hash(f"text of {item_id}"), given)
        self.model.terminal.setdefault((batch_id, who), []).append((item_id, answer, self.clock))
        self.clock += timedelta(minutes=1)

    @rule(days=st.integers(-400, 400))
    def clock_jumps(self, days: int) -> None:
        """Set the clock of this machine to another day."""
        self.clock += timedelta(days=days, minutes=1)
        assert status_of(self.project).items == len(ITEMS)

    @precondition(lambda self: self.model.order and len(self.asked) < 4)
    @rule(purpose=st.sampled_from((Purpose.ADJUDICATION, Purpose.REVIEW)))
    def ask_again(self, purpose: Purpose) -> None:
        """Publish what is answered again, to be settled or reviewed."""
        out = f"SELECT item_id FROM ({OUT}) WHERE purpose = ?"
        being_asked = {item_id for (item_id,) in self.workspace.store().rows(out, [purpose])}
        items = sorted({item_id for item_id, _ in self.model.order} - being_asked)
        if not items:
            return
        batch_id = publish(self.workspace.store(), *items, purpose=purpose)
        self.asked[batch_id] = set(items)
        self.adjudications |= {batch_id} if purpose is Purpose.ADJUDICATION else set()
        publish_batches(self.project)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """Close a batch; its answers still count."""
        batch_id = data.draw(st.sampled_from([*self.asked]))
        status = self.workspace.store().rows("SELECT status FROM lake.batches WHERE batch_id = ?", [batch_id])[0][0]
        if status == BatchStatus.PUBLISHED:
            close_batch(self.workspace.store(), batch_id)

    @rule()
    def ingest(self) -> None:
        """Ingest all that waits."""
        with self._at_this_time():
            collect_answers(self.project)
        self.model.ingest(self.adjudications)

    @rule(step=st.sampled_from(STEPS), before=st.booleans(), nth=st.integers(1, 3))
    def ingest_and_crash(self, step: str, before: bool, nth: int) -> None:
        """Crash in an ingest, before or after a step; the next process ingests again."""
        function, calls = getattr(tasks.collect, step), itertools.count(1)

        def crashes(*arguments: object, **more: object) -> object:
            now = next(calls) == nth
            if now and before:
                raise Crash
            result = function(*arguments, **more)
            if now:
                raise Crash
            return result

        with self._at_this_time(), patch.object(tasks.collect, step, crashes):
            try:
                collect_answers(self.project)
            except Crash:
                self.workspace.close()
                self.project = project_of(self.workspace)
        self.ingest()

    @contextmanager
    def _at_this_time(self) -> Iterator[None]:
        """Let the clock of this machine be that of the model; files are older than what is still being written."""
        now = self.clock.replace(tzinfo=None)
        with ExitStack() as stack:
            stack.enter_context(patch("storage.lake.annotations.utc_now", lambda: now))
            stack.enter_context(patch("annotation.inbox.FRESH_S", -FRESH_S))
            yield

    @invariant()
    def what_counts_is_what_the_model_says(self) -> None:
        """Compare the answers that count, the labels, the splits, and what still waits."""
        store = self.workspace.store()
        standing = {
            (item, who): answer
            for item, who, answer in store.rows(f"SELECT item_id, annotator, answer FROM ({standing_answers()})")
        }
        first = {who.strip().casefold(): who for _, who in standing}
        assert len(first) == len({who for _, who in standing}), "one spelling of each annotator"
        assert {(i, folded(w)): a for (i, w), a in standing.items()} == self.model.order
        rows = store.rows(f"SELECT item_id, label, split FROM ({current_labels()})")
        assert {i: label for i, label, _ in rows} == {i: self.model.label(i) for i in {k[0] for k in self.model.order}}
        assert {split for *_, split in rows} <= {"training"}
        assert sorted(path.name for path in self.workspace.inbox.glob("*.csv")) == sorted(self.model.waiting)
        assert list((self.workspace.inbox / ".claimed").glob("*")) == []


TestIntake = Intake.TestCase
TestIntake.settings = settings(
    max_examples=50, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
