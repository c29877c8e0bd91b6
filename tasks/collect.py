"""Stage `collect`: the answers of every filled file into the lake, exactly once.

The protocol: claim the files of the inbox, read and check each alone, look whether it is still as it was read, ingest
all answers in one transaction, put away what is as it was read, and note in the journal what became of each file.
Killed at any point, the next run puts claimed files back and goes on; the lake knows by their bytes which it has.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotation.batch import sha256_of
from annotation.checks import FilledFile
from annotation.claims import FileState, alone_in, claim, put_back, state_of
from annotation.inbox import (
    PUT_AWAY,
    BatchChecks,
    CheckedFile,
    check_file,
    passed_over,
    put_away,
    settled_files,
    waiting_files,
)
from annotation.label_set import LabelSet
from storage.errors import BatchError
from storage.lake.annotations import Contradiction, FileAnswers, HandIn, Ingested, ingest_files, read_files
from storage.workspace import Workspace
from tasks.project import Project, refuse_lost_labels

log = logging.getLogger(__name__)

JOURNAL = "ingested-files.jsonl"
"""In `reports`: a line for each file of each ingest, the oldest first."""


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    Attributes:
        n_new: Annotations that were not in the lake.
        n_known: Answers that were.
        errors: Rows that were not ingested, or why nothing was, in words; rows are listed in `errors_file`.
        completed: Batches that it completed.
        n_corrected: Of the new ones those that replace an earlier answer of the same annotator.
        notes: What is odd about it, and no error.
        place: Where the file is now; empty where it stayed.
        known_since: When the same bytes were first ingested (UTC); None where they were not.
        n_rows: Rows that were read.
        sha256: Of its bytes.
        size: In bytes, when it was read.
        changed_ns: When it was last changed before that, in nanoseconds since 1970.
    """

    file: str
    n_new: int = 0
    n_known: int = 0
    errors: list[str] = field(default_factory=list)
    errors_file: str | None = None
    completed: list[str] = field(default_factory=list)
    n_corrected: int = 0
    notes: list[str] = field(default_factory=list, compare=False)
    place: str = field(default="", compare=False)
    known_since: datetime | None = field(default=None, compare=False)
    n_rows: int = field(default=0, compare=False)
    sha256: str = field(default="", compare=False)
    size: int = field(default=0, compare=False)
    changed_ns: int = field(default=0, compare=False)

    def line(self) -> str:
        """What became of it, for people."""
        brought = f"{self.n_new - self.n_corrected:,} new, {self.n_corrected:,} corrected, {self.n_known:,} same"
        line = f"{self.file}: {brought}, {len(self.errors):,} refused"
        if self.known_since is not None:
            line += (
                f"; the same file was ingested on {self.known_since:%Y-%m-%d %H:%M} UTC (to ingest it again: --again)"
            )
        return " ".join([f"{line}; now {self.place}." if self.place else f"{line}.", *self.notes])


@dataclass(frozen=True)
class Wanted:
    """Which files to ingest, and how.

    Attributes:
        files: Paths; none for all that is filled in.
        form: The format of the named files; told by their content where that is None.
        again: Ingest them as later answers, even if the same bytes were ingested before.
    """

    files: Sequence[Path] = ()
    form: str | None = None
    again: bool = False


def collect_answers(
    project: Project, files: Sequence[Path] = (), form: str | None = None, *, again: bool = False
) -> list[FileReport]:
    """Ingest the named files, or everything filled in `batches/` and `inbox/`; running it again changes nothing.

    A file that changes while it is read is left, or put back, for the next run.

    Args:
        files: Paths; none for everything.
        form: The format of the named files; told by their content where that is None.
        again: Take the files as later answers, even if the same bytes were ingested before.

    Raises:
        BatchError: A named file is not there; nothing is ingested from the others either.
        ConfigError: pal.toml lacks a label that items have.
    """
    workspace, store = project.workspace, project.store
    refuse_lost_labels(project)
    with alone_in(workspace):
        for path in changed_since(workspace):
            name = put_back(workspace.inbox, path).name
            log.warning("%s was written to after it was ingested: put back into the inbox as %s.", path, name)
        for line in passed_over(workspace):
            log.warning("%s.", line)
        with store.reading():
            arrivals = _arrivals(project, Wanted(files, form, again))
        taken = [arrival for arrival in arrivals if arrival.is_as_read()]
        for arrival in taken:
            if not arrival.file.in_inbox:  # once it counts as read, nobody looks at its errors again
                arrival.put_away(workspace)
        answers = [each for arrival in taken for each in arrival.answers(again=again)]
        read = {arrival.name: arrival.digest for arrival in taken if arrival.digest and not arrival.fault}
        results = dict(zip(map(_key, answers), ingest_files(store, answers, read), strict=True))
        reports = []
        for arrival in arrivals:
            brought = {batch_id: results.get((arrival.name, batch_id)) for batch_id in arrival.content.answers}
            reports.append(arrival.settle(workspace, {k: v for k, v in brought.items() if v is not None}))
            _tell(reports[-1])
        _keep(workspace, reports)
    return reports


def files_to_collect(project: Project) -> list[FilledFile]:
    """The files of `batches/` and `inbox/` that were filled in and not read as they are now."""
    workspace = project.workspace
    waiting = waiting_files(workspace) + [FilledFile(path, in_inbox=True) for path in changed_since(workspace)]
    seen = read_files(project.store) if waiting else {}
    return [file for file in waiting if file.in_inbox or not _is_read(file, workspace, project.label_set, seen)]


def changed_since(workspace: Workspace) -> list[Path]:
    """Files that were put away and are no longer as they were read: an upload stalled, and went on.

    In a copied or restored workspace only their times differ.
    """
    try:
        lines = (workspace.reports / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    places = {}
    for line in lines:
        try:
            entry = json.loads(line)
            places[str(entry["place"])] = FileState(entry["size"], entry["changed_ns"], entry["sha256"])
        except (ValueError, LookupError, TypeError):
            continue  # torn by a kill, or of an earlier version: nothing is known of that file
    changed = []
    for place, read in places.items():
        path = workspace.root / place
        if path.parent.parent != workspace.inbox or not read.changed_ns or not path.is_file():
            continue
        now = path.stat()
        is_same_size = now.st_size == read.size
        if not is_same_size or (now.st_mtime_ns != read.changed_ns and sha256_of(path) != read.sha256):
            changed.append(path)
    return changed


def _is_read(file: FilledFile, workspace: Workspace, label_set: LabelSet, seen: Mapping[str, str]) -> bool:
    try:
        return seen.get(workspace.name_of(file.path)) == _digest(sha256_of(file.path), label_set)
    except OSError:
        return False  # the ingest says what is wrong with it


def ingested_rows(reports: Sequence[FileReport]) -> list[dict[str, Any]]:
    """What each file brought, as the rows of a table."""
    return [
        {
            "file": report.file,
            "new answers": report.n_new,
            "known": report.n_known,
            "errors": "; ".join(report.errors),
            "batches completed": ", ".join(report.completed),
        }
        for report in reports
    ]


@dataclass
class _Arrival:
    """A file on its way into the lake.

    Attributes:
        file: Where it is read: of the inbox, where it was claimed.
        name: As the lake names it, and `origin` where it came from.
        state: What it was when it was read; None where it could not be.
        digest: What is to be remembered of it once it is read; empty where nothing is, or where the lake has it.
        fault: Why it cannot be read or put away; empty where nothing is wrong.
        errors_file: The list of its faulty rows, once that is written.
        is_changed: It is not as it was read.
    """

    file: FilledFile
    name: str
    origin: Path
    state: FileState | None = None
    digest: str = ""
    content: CheckedFile = field(default_factory=CheckedFile)
    fault: str = ""
    errors_file: Path | None = None
    place: Path | None = None
    is_changed: bool = False

    def refuse(self, error: OSError) -> None:
        """Say why it cannot be read or put away."""
        self.fault = f"{self.origin} cannot be read or moved: {error.strerror or error}"

    def is_as_read(self) -> bool:
        """Whether it is now what was read."""
        if self.state is None:
            return not self.fault
        try:
            self.is_changed = self.is_changed or state_of(self.file.path) != self.state
        except OSError:
            self.is_changed = True
        return not self.is_changed

    def answers(self, *, again: bool) -> list[FileAnswers]:
        """Its answers, by batch."""
        if self.state is None:
            return []
        stays = bool(self.file.batch_id)
        hand_in = HandIn(
            self.state.sha256,
            stays=stays,
            saved_at=datetime.fromtimestamp(self.state.changed_ns / 1e9, UTC),
            is_journal=stays and self.file.path.match("answers-*.jsonl"),
            again=again,
            parts=self.content.parts,
        )
        return [FileAnswers(self.name, batch_id, given, hand_in) for batch_id, given in self.content.answers.items()]

    def settle(self, workspace: Workspace, brought: Mapping[str, Ingested]) -> FileReport:
        """Put it away, or back, now that its answers are in the lake; returns what became of it."""
        contradictions = {each: None for result in brought.values() for each in result.contradictions}
        if self.file.in_inbox and not self.fault:
            if contradictions or not self.is_as_read():
                self._put_back(workspace)
            else:
                self.put_away(workspace)
        notes = list(self.content.notes)
        if self.is_changed:
            notes = ["It changed while it was read; it will be ingested on the next run."]
        errors = [*map(str, self.content.errors), *self.content.unreadable, *filter(None, [self.fault])]
        errors = [error.replace(str(self.file.path), str(self.origin)) for error in errors]
        return FileReport(
            self.name,
            sum(result.n_new for result in brought.values()),
            sum(result.n_known for result in brought.values()),
            [*map(_contradiction, contradictions)] or ([] if self.is_changed else errors),
            str(self.errors_file) if self.errors_file else None,
            [batch_id for batch_id, result in brought.items() if result.complete and result.n_new],
            sum(result.n_corrected for result in brought.values()),
            notes,
            workspace.name_of(self.place) if self.place else "",
            next((result.known_since for result in brought.values()), None),
            self.content.n_rows,
            self.state.sha256 if self.state else "",
            self.state.size if self.state else 0,
            self.state.changed_ns if self.state else 0,
        )

    def put_away(self, workspace: Workspace) -> None:
        """Move it out of the inbox, and list its errors beside it."""
        folder = workspace.inbox / PUT_AWAY[bool(self.content.errors or self.content.unreadable)]
        try:
            place, self.errors_file = put_away(self.file, self.content.errors, folder)
            self.place = place if self.file.in_inbox else None
        except OSError as error:
            self.refuse(error)

    def _put_back(self, workspace: Workspace) -> None:
        try:
            self.place = put_back(workspace.inbox, self.file.path)
        except OSError as error:
            self.refuse(error)


def _arrivals(project: Project, wanted: Wanted) -> list[_Arrival]:
    """Every file to ingest, read and checked, in order; without those that were read before as they are now."""
    workspace, label_set = project.workspace, project.label_set
    checks = BatchChecks(workspace, label_set, again=wanted.again)
    seen = read_files(checks.store)
    waiting = waiting_files(workspace, wanted.files)
    settled = waiting if wanted.files else settled_files(waiting)
    for file in waiting:
        if file not in settled:
            log.warning("%s is still being written; it will be ingested on the next run.", workspace.name_of(file.path))
    arrivals = []
    for file in settled:
        arrival = _Arrival(file, (Path(workspace.name_of(file.path.parent)) / file.path.name).as_posix(), file.path)
        try:
            if file.in_inbox:
                arrival.file = replace(file, path=claim(workspace.inbox, file.path))
            if not arrival.file.path.is_symlink():
                arrival.state = state_of(arrival.file.path)
                digest = _digest(arrival.state.sha256, label_set)
                if not file.in_inbox and seen.get(arrival.name) != digest:
                    arrival.digest = digest
                elif not file.in_inbox and not wanted.files:
                    continue
            arrival.content = check_file(checks, arrival.file, wanted.form)
        except FileNotFoundError as error:
            if wanted.files:
                raise BatchError(f"There is no file {file.path}.", hint="Check the path: ls inbox batches") from error
            continue  # it was removed meanwhile
        except OSError as error:
            arrival.refuse(error)
        arrivals.append(arrival)
    return arrivals


def _digest(sha256: str, label_set: LabelSet) -> str:
    """Hash of a file and of the answers it may give: it is read again where one of them changes."""
    return hashlib.sha256("\x1f".join((sha256, *label_set.allowed())).encode()).hexdigest()


def _key(answers: FileAnswers) -> tuple[str, str]:
    return answers.source_file, answers.batch_id


def _contradiction(contradiction: Contradiction) -> str:
    answers = ", ".join(f"{answer!r} in {file}" for file, answer in contradiction.answers)
    return (
        f"Item {contradiction.item_id}: {contradiction.annotator} gives different answers: {answers}. "
        "Nothing of these files is ingested until one of them is corrected or removed."
    )


def _keep(workspace: Workspace, reports: Sequence[FileReport]) -> None:
    """Add what became of each file to the journal."""
    if not reports:
        return
    workspace.reports.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [json.dumps({"at": now} | asdict(report), ensure_ascii=False, default=str) + "\n" for report in reports]
    with (workspace.reports / JOURNAL).open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(lines)


def _tell(report: FileReport) -> None:
    log.info("%s", report.line())
    for error in report.errors[:5]:
        log.warning("%s: %s", report.file, error)
    if report.errors_file:
        log.warning("Fix the rows in %s and put that file into inbox/.", report.errors_file)
    for batch_id in report.completed:
        log.info("Batch %s is complete.", batch_id)
