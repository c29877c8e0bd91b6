"""Stage `collect`: ingests the answers of every filled file into the lake, exactly once.

The protocol: claim the files of the inbox, read and check each of them, verify that it has not changed meanwhile,
ingest all answers in one transaction, move unchanged files away, and record the result of each file in the journal.
After a kill at any point, the next run puts claimed files back and continues; the lake recognizes ingested bytes.
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
from annotation.claims import PUT_AWAY, FileState, alone_in, claim, put_back, state_of
from annotation.inbox import (
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
"""File in `reports` with a line for each file of each ingest, oldest first."""


@dataclass(frozen=True)
class FileReport:
    """The result of ingesting one file.

    Attributes:
        n_new: New annotations.
        n_known: Answers that were in the lake already.
        errors: Rejected rows, or why nothing was ingested; rows are also listed in `errors_file`.
        completed: Batches that it completed.
        n_corrected: New annotations that replace an earlier answer of the same annotator.
        notes: Oddities that are not errors.
        place: The file's new path; empty if it was not moved.
        known_since: When the same bytes were first ingested (UTC); None if they were not.
        n_rows: Number of rows read.
        sha256: Hash of its bytes.
        size: Size in bytes when it was read.
        changed_ns: Modification time when it was read, in nanoseconds since 1970.
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
        """A summary for people."""
        counts = f"{self.n_new - self.n_corrected:,} new, {self.n_corrected:,} corrected, {self.n_known:,} same"
        line = f"{self.file}: {counts}, {len(self.errors):,} rejected"
        if self.known_since is not None:
            line += (
                f"; the same file was ingested on {self.known_since:%Y-%m-%d %H:%M} UTC (to ingest it again: --again)"
            )
        return " ".join([f"{line}; now {self.place}." if self.place else f"{line}.", *self.notes])


@dataclass(frozen=True)
class IngestRequest:
    """Which files to ingest, and how.

    Attributes:
        files: Paths; empty for all filled files.
        form: The format of the files; by default recognized by content.
        again: Ingest them as new answers even if the same bytes were ingested before.
    """

    files: Sequence[Path] = ()
    form: str | None = None
    again: bool = False


def collect_answers(
    project: Project, files: Sequence[Path] = (), form: str | None = None, *, again: bool = False
) -> list[FileReport]:
    """Ingest files, by default all filled files in `batches/` and `inbox/`; running it again changes nothing.

    A file that changes while it is read is left, or put back, for the next run.

    Args:
        files: Paths; empty for everything.
        form: The format of the files; by default recognized by content.
        again: Ingest them as new answers even if the same bytes were ingested before.

    Raises:
        BatchError: A file does not exist; then nothing is ingested.
        ConfigError: pal.toml lacks a label that items have.
    """
    workspace, store = project.workspace, project.store
    refuse_lost_labels(project)
    with alone_in(workspace):
        for path in changed_since(workspace):
            name = put_back(workspace.inbox, path).name
            log.warning("%s was changed after it was ingested; moved it back into the inbox as %s.", path, name)
        for line in passed_over(workspace):
            log.warning("%s.", line)
        with store.reading():
            arrivals = _arrivals(project, IngestRequest(files, form, again))
        unchanged = [arrival for arrival in arrivals if arrival.is_as_read()]
        for arrival in unchanged:
            if not arrival.file.in_inbox:  # write its errors first: once it counts as read, it is not read again
                arrival.put_away(workspace)
        answers = [answer for arrival in unchanged for answer in arrival.answers(again=again)]
        read = {arrival.name: arrival.digest for arrival in unchanged if arrival.digest and not arrival.fault}
        results = dict(zip(map(_key, answers), ingest_files(store, answers, read), strict=True))
        reports = []
        for arrival in arrivals:
            ingested = {batch_id: results.get((arrival.name, batch_id)) for batch_id in arrival.content.answers}
            reports.append(arrival.settle(workspace, {k: v for k, v in ingested.items() if v is not None}))
            _log(reports[-1])
        _record(workspace, reports)
    return reports


def files_to_collect(project: Project) -> list[FilledFile]:
    """The filled files of `batches/` and `inbox/` that have changed since they were last read."""
    workspace = project.workspace
    waiting = waiting_files(workspace) + [FilledFile(path, in_inbox=True) for path in changed_since(workspace)]
    hashes = read_files(project.store) if waiting else {}
    return [file for file in waiting if file.in_inbox or not _is_read(file, workspace, project.label_set, hashes)]


def changed_since(workspace: Workspace) -> list[Path]:
    """Files that were changed after they were moved away, such as by an upload that stalled and continued.

    Files of a copied or restored workspace, of which only the times differ, are not changed.
    """
    try:
        lines = (workspace.reports / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    states = {}
    for line in lines:
        try:
            entry = json.loads(line)
            states[str(entry["place"])] = FileState(entry["size"], entry["changed_ns"], entry["sha256"])
        except (ValueError, LookupError, TypeError):
            continue  # incomplete after a kill, or of an earlier version
    changed = []
    for name, state in states.items():
        path = workspace.root / name
        if path.parent.parent != workspace.inbox or not state.changed_ns or not path.is_file():
            continue
        now = path.stat()
        is_same_size = now.st_size == state.size
        if not is_same_size or (now.st_mtime_ns != state.changed_ns and sha256_of(path) != state.sha256):
            changed.append(path)
    return changed


def _is_read(file: FilledFile, workspace: Workspace, label_set: LabelSet, hashes: Mapping[str, str]) -> bool:
    try:
        return hashes.get(workspace.name_of(file.path)) == _digest(sha256_of(file.path), label_set)
    except OSError:
        return False  # the ingest reports the error


def ingested_rows(reports: Sequence[FileReport]) -> list[dict[str, Any]]:
    """The results as rows of a table."""
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
    """A file while it is ingested.

    Attributes:
        file: The file to read; in the inbox, the claimed one.
        name: Its name in the lake; `origin` is its original path.
        state: Its state when it was read; None if it could not be read.
        digest: The hash to record once it is read; empty if there is nothing to record.
        fault: Why it cannot be read or moved; empty without a fault.
        errors_file: The list of its rejected rows, once written.
        is_changed: Whether it has changed since it was read.
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
        """Record why it cannot be read or moved."""
        self.fault = f"{self.origin} cannot be read or moved: {error.strerror or error}"

    def is_as_read(self) -> bool:
        """Whether it has not changed since it was read."""
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
        return [
            FileAnswers(self.name, batch_id, answers, hand_in) for batch_id, answers in self.content.answers.items()
        ]

    def settle(self, workspace: Workspace, ingested: Mapping[str, Ingested]) -> FileReport:
        """Move it away, or back, now that its answers are in the lake; returns its report."""
        contradictions = {entry: None for result in ingested.values() for entry in result.contradictions}
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
            sum(result.n_new for result in ingested.values()),
            sum(result.n_known for result in ingested.values()),
            [*map(_contradiction, contradictions)] or ([] if self.is_changed else errors),
            str(self.errors_file) if self.errors_file else None,
            [batch_id for batch_id, result in ingested.items() if result.complete and result.n_new],
            sum(result.n_corrected for result in ingested.values()),
            notes,
            workspace.name_of(self.place) if self.place else "",
            next((result.known_since for result in ingested.values()), None),
            self.content.n_rows,
            self.state.sha256 if self.state else "",
            self.state.size if self.state else 0,
            self.state.changed_ns if self.state else 0,
        )

    def put_away(self, workspace: Workspace) -> None:
        """Move it out of the inbox, with a list of its errors beside it."""
        folder = workspace.inbox / PUT_AWAY[bool(self.content.errors or self.content.unreadable)]
        try:
            new_path, self.errors_file = put_away(self.file, self.content.errors, folder)
            self.place = new_path if self.file.in_inbox else None
        except OSError as error:
            self.refuse(error)

    def _put_back(self, workspace: Workspace) -> None:
        try:
            self.place = put_back(workspace.inbox, self.file.path)
        except OSError as error:
            self.refuse(error)


def _arrivals(project: Project, request: IngestRequest) -> list[_Arrival]:
    """Read and check every file to ingest, in order, except those that have not changed since they were read."""
    workspace, label_set = project.workspace, project.label_set
    checks = BatchChecks(workspace, label_set, again=request.again)
    hashes = read_files(checks.store)
    waiting = waiting_files(workspace, request.files)
    settled = waiting if request.files else settled_files(waiting)
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
                if not file.in_inbox and hashes.get(arrival.name) != digest:
                    arrival.digest = digest
                elif not file.in_inbox and not request.files:
                    continue
            arrival.content = check_file(checks, arrival.file, request.form)
        except FileNotFoundError as error:
            if request.files:
                raise BatchError(f"There is no file {file.path}.", hint="Check the path: ls inbox batches") from error
            continue  # it was removed meanwhile
        except OSError as error:
            arrival.refuse(error)
        arrivals.append(arrival)
    return arrivals


def _digest(sha256: str, label_set: LabelSet) -> str:
    """Hash of a file and of the allowed answers; if either changes, the file is read again."""
    return hashlib.sha256("\x1f".join((sha256, *label_set.allowed())).encode()).hexdigest()


def _key(answers: FileAnswers) -> tuple[str, str]:
    return answers.source_file, answers.batch_id


def _contradiction(contradiction: Contradiction) -> str:
    answers = ", ".join(f"{answer!r} in {file}" for file, answer in contradiction.answers)
    return (
        f"Item {contradiction.item_id}: {contradiction.annotator} gives different answers: {answers}. "
        "Nothing of these files is ingested until one of them is corrected or removed."
    )


def _record(workspace: Workspace, reports: Sequence[FileReport]) -> None:
    """Add the results to the journal."""
    if not reports:
        return
    workspace.reports.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [json.dumps({"at": now} | asdict(report), ensure_ascii=False, default=str) + "\n" for report in reports]
    with (workspace.reports / JOURNAL).open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(lines)


def _log(report: FileReport) -> None:
    log.info("%s", report.line())
    for error in report.errors[:5]:
        log.warning("%s: %s", report.file, error)
    if report.errors_file:
        log.warning("Correct the rows in %s and put that file into inbox/.", report.errors_file)
    for batch_id in report.completed:
        log.info("Batch %s is complete.", batch_id)
