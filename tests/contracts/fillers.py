"""Programs that fill in a published batch as its tools do: with each tool's own shape, and with no code of ours."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import openpyxl

START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
USER = "00000000-0000-0000-0000-00000000000a"


class Given(NamedTuple):
    """One answer of anna's.

    Attributes:
        written: As she types it into a cell.
        answer: What it means: what a tool with a button for it keeps.
        at_s: When, in seconds after `START`.
    """

    item_id: str
    written: str
    answer: str
    at_s: int

    @property
    def at(self) -> datetime:
        return START + timedelta(seconds=self.at_s)


Log = Sequence[Given]
"""Answers in the order given; the last one to an item counts."""

History = dict[tuple[str, str], list[tuple[str, datetime | None]]]
"""(item_id, annotator) -> every answer in the order given, and when."""


@dataclass(frozen=True)
class Program:
    """One way for a batch to come back.

    Attributes:
        fill: Takes the batch's folder, the file to write and the answers.
        file: How that file is named.
        of: The published format that it fills in; empty where it does without a file of ours.
        annotator: What anna is called there.
        skips: Whether it says which items were skipped.
        timed: Whether it says when.
        keeps_all: Whether it says what was answered before an answer was changed.
    """

    fill: Callable[[Path, Path, Log], None]
    file: str
    of: str
    annotator: str = "anna"
    skips: bool = True
    timed: bool = False
    keeps_all: bool = False

    def told(self, given: Log) -> History:
        """What it can tell of these answers."""
        found: History = {}
        for each in given if self.keeps_all else latest(given).values():
            if self.skips or each.answer != "skip":
                at = each.at if self.timed else None
                found.setdefault((each.item_id, self.annotator), []).append((each.answer, at))
        return found


def latest(given: Log) -> dict[str, Given]:
    """The answer that counts, by item_id."""
    return {each.item_id: each for each in given}


def fill_csv_as_python(folder: Path, to: Path, given: Log) -> None:
    """Keeps the order of the rows."""
    rows = _csv_rows(folder, given)
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def fill_csv_as_a_spreadsheet(folder: Path, to: Path, given: Log) -> None:
    """Sorts, adds columns and blank rows, makes ids numbers, and saves as UTF-16 with tabs."""
    rows = _csv_rows(folder, given)
    for row in rows:
        row["my column"] = "seen"
        if (shown := row["item_id"]).isdecimal():
            row["item_id"] = f"{int(shown):.5E}" if len(shown) > 11 else f"{int(shown)}.0"
    rows.sort(key=lambda row: (row["label"], row["text"]))
    names = list(rows[0])[::-1]
    with to.open("w", encoding="utf-16", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab")
        writer.writerow(names)
        for number, row in enumerate(rows):
            writer.writerow([row[name] for name in names])
            if number % 50 == 0:
                writer.writerow([])


def fill_workbook(folder: Path, to: Path, given: Log) -> None:
    """Makes keys numbers, sorts the rows, adds a column in front, and saves.

    Cells are written anew, so that a text like `=1+1` comes back as a formula.
    """
    answers = latest(given)
    workbook = openpyxl.load_workbook(folder / "batch.xlsx")
    sheet = workbook["items"]
    names, *rows = ([cell.value for cell in row] for row in sheet.iter_rows())
    label, annotator, item_id, text = map(names.index, ("label", "annotator", "item_id", "text"))
    for row in rows:
        if each := answers.get(str(row[item_id])):
            row[label], row[annotator] = TYPED.get(each.written, each.written), "anna"
    rows.sort(key=lambda row: (str(row[label]), str(row[text])), reverse=True)
    for number, cells in enumerate([["my column", *names], *(["seen", *row] for row in rows)], start=1):
        for column, value in enumerate(cells, start=1):
            sheet.cell(number, column).value = value
    workbook.save(to)


def fill_journal(folder: Path, to: Path, given: Log) -> None:
    """As the terminal keeps them: a line for every answer."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hashes = {item["item_id"]: item["text_hash"] for item in manifest["items"]}
    lines = _answer_lines(manifest["batch_id"], hashes, given)
    to.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8", newline="\n"
    )


def fill_web_page(folder: Path, to: Path, given: Log) -> None:
    """As the page saves them: what is in the page goes into every line, as JavaScript writes JSON and times."""
    page = (folder / "batch.html").read_text(encoding="utf-8")
    (block,) = re.findall(r'<script type="application/json" id="handout">(.*?)</script>', page, re.DOTALL)
    handout = json.loads(block)
    hashes = {item["item_id"]: item["text_hash"] for item in handout["items"]}
    assert {each.answer for each in given} <= {
        *(label["name"] for label in handout["labels"]),
        "unsure",
        "skip",
    } | WRONG
    lines = list(_answer_lines(handout["batch_id"], hashes, given))
    for line in lines:
        line["annotated_at"] = line["annotated_at"].replace("+", ".000+")
    written = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    to.write_text("".join(written), encoding="utf-8", newline="\n")


def fill_label_studio(folder: Path, to: Path, given: Log) -> None:
    """The export JSON: tasks with annotations; a changed annotation has the time of its change."""
    to.write_text(
        json.dumps(_label_studio_tasks(folder, given), ensure_ascii=False, indent=2), encoding="utf-8", newline="\n"
    )


def fill_label_studio_min(folder: Path, to: Path, given: Log) -> None:
    """The export JSON_MIN: an entry for each annotation, without skipped ones, and for each task without any."""
    entries = []
    for task in _label_studio_tasks(folder, given):
        for each in task["annotations"] or [{"result": []}]:
            if each.get("was_cancelled"):
                continue
            results = {result["from_name"]: result["value"]["choices"][0] for result in each["result"]}
            kept = {name: each.get(name) for name in ("created_at", "updated_at", "lead_time")}
            by = {"annotator": 7 if "id" in each else None, "annotation_id": each.get("id")}
            entries.append({**task["data"], "id": task["id"], **results, **by, **kept})
    to.write_text(json.dumps(entries), encoding="utf-8", newline="\n")


def fill_argilla(folder: Path, to: Path, given: Log) -> None:
    """`dataset.records.to_list(flatten=True)`: responses in parallel lists; every record has every key."""
    answers, records = latest(given), []
    for record in json.loads((folder / "argilla.json").read_text(encoding="utf-8")):
        each = answers.get(record["id"])
        skipped = each is not None and each.answer == "skip"
        response = (None if skipped else each.answer, USER, "discarded" if skipped else "submitted") if each else None
        lists = {f"label.responses{part}": response and [value] for part, value in _parts(response)}
        status = {"status": "completed" if response else "pending", "_server_id": "5f1e"}
        suggestion = {"label.suggestion": None, "label.suggestion.score": None, "label.suggestion.agent": None}
        records.append({"id": record["id"], **status, **record["fields"], **record["metadata"], **lists, **suggestion})
    to.write_text(json.dumps(records), encoding="utf-8", newline="\n")


def fill_doccano(folder: Path, to: Path, given: Log) -> None:
    """The zip that it exports: a file for each member of the project, and bo did nothing."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anna.jsonl", _doccano_lines(folder, given))
        archive.writestr("bo.jsonl", _doccano_lines(folder, []))


def fill_prodigy(folder: Path, to: Path, given: Log) -> None:
    """What `db-out` writes: every decision of a named session, in the order taken."""
    tasks = [json.loads(line) for line in (folder / "prodigy.jsonl").read_text(encoding="utf-8").split("\n") if line]
    by_id = {task["meta"]["item_id"]: (number, task) for number, task in enumerate(tasks)}
    lines = []
    for each in given:
        number, task = by_id[each.item_id]
        assert each.answer in [*(option["id"] for option in task["options"]), "skip", *WRONG]
        skipped = each.answer == "skip"
        decision = {"accept": [] if skipped else [each.answer], "answer": "ignore" if skipped else "accept"}
        session = {"_timestamp": int(each.at.timestamp()), "_annotator_id": "news-anna", "_session_id": "news-anna"}
        hashes = {"_input_hash": -number, "_task_hash": number, "_view_id": "choice"}
        lines.append(json.dumps({**task, **hashes, **decision, **session}, ensure_ascii=False) + "\n")
    to.write_text("".join(lines), encoding="utf-8", newline="\n")


def fill_original(folder: Path, to: Path, given: Log) -> None:
    """As a script does that reads and writes rows; the label is the third value."""
    answers = latest(given)
    with (folder / "original.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows:
        row[2] = answers[row[0]].written if row[0] in answers else ""
    with to.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def fill_zip(folder: Path, to: Path, given: Log) -> None:
    """The files of one who answered every item in one of several ways, with what else lies in a batch's folder."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    place = {item["item_id"]: number for number, item in enumerate(manifest["items"])}
    ways = (fill_csv_as_python, fill_workbook, fill_web_page, _fill_doccano_part)
    names = ("batch.csv", "sent/batch.xlsx", "sent/answers.jsonl", "doccano/anna.jsonl")
    with TemporaryDirectory() as work, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (fill, name) in enumerate(zip(ways, names, strict=True)):
            part = Path(work) / "part"
            fill(folder, part, [each for each in given if place[each.item_id] % len(ways) == number])
            archive.write(part, name)
            archive.writestr(f"__MACOSX/._{Path(name).name}", b"\x00\x05\x16\x07")
        for name in ("manifest.json", "definition.txt", "label-studio-config.xml", "original.csv"):
            archive.write(folder / name, name)


TYPED = {"1": 1, "0.0": 0.0}
"""What becomes of a key that is typed into a cell for numbers."""

WRONG = {"relatd"}
"""What a tool in which a label was renamed says, and a file that was edited by hand."""

PROGRAMS = {
    "csv": Program(fill_csv_as_python, "anna.csv", "csv"),
    "csv of a spreadsheet": Program(fill_csv_as_a_spreadsheet, "anna.txt", "csv"),
    "xlsx": Program(fill_workbook, "anna.xlsx", "xlsx"),
    "journal": Program(fill_journal, "answers-anna.jsonl", "", timed=True, keeps_all=True),
    "html": Program(fill_web_page, "answers-b0001-training-anna.jsonl", "html", timed=True, keeps_all=True),
    "Label Studio": Program(fill_label_studio, "project-1.json", "label-studio", "anna@example.test", timed=True),
    "Label Studio, JSON_MIN": Program(
        fill_label_studio_min, "project-1-min.json", "label-studio", "7", skips=False, timed=True
    ),
    "Argilla": Program(fill_argilla, "records.json", "argilla", USER),
    "doccano": Program(fill_doccano, "doccano.zip", "doccano"),
    "Prodigy": Program(fill_prodigy, "out.jsonl", "prodigy", "news-anna", timed=True, keeps_all=True),
    "original": Program(fill_original, "original.csv", "original", "unnamed"),
    "zip": Program(fill_zip, "anna.zip", ""),
}


def _csv_rows(folder: Path, given: Log) -> list[dict[str, str]]:
    """Rows filled in by their id as it stands there, less the mark that keeps a formula from running."""
    answers = latest(given)
    with (folder / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        shown = row["item_id"]
        if each := answers.get(shown) or answers.get(shown.removeprefix("'")):
            row["label"], row["annotator"] = each.written, "anna"
    return rows


def _answer_lines(batch_id: str, hashes: dict[str, str], given: Log) -> Iterator[dict[str, Any]]:
    for each in given:
        yield {
            "batch_id": batch_id,
            "item_id": each.item_id,
            "text_hash": hashes[each.item_id],
            "answer": each.answer,
            "note": "",
            "annotator": "anna",
            "seconds": 1.5,
            "annotated_at": each.at.isoformat(),
        }


def _label_studio_tasks(folder: Path, given: Log) -> list[dict[str, Any]]:
    answers, first = latest(given), latest(given[::-1])
    tasks: list[dict[str, Any]] = json.loads((folder / "label-studio.json").read_text(encoding="utf-8"))
    for number, task in enumerate(tasks, start=1):
        task |= {"id": number, "annotations": [], "drafts": [], "predictions": [], "meta": {}, "project": 2}
        if each := answers.get(task["data"]["item_id"]):
            choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [each.answer]}}
            task["annotations"].append(
                {
                    "id": 1000 + number,
                    "completed_by": {"id": 7, "email": "anna@example.test", "first_name": "Anna", "last_name": ""},
                    "result": [] if each.answer == "skip" else [{"id": "aB1", "origin": "manual", **choice}],
                    "was_cancelled": each.answer == "skip",
                    "ground_truth": False,
                    "lead_time": 3.5,
                    "created_at": _zulu(first[each.item_id].at),
                    "updated_at": _zulu(each.at),
                }
            )
    return tasks


def _zulu(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _parts(response: tuple[str | None, str, str] | None) -> Iterator[tuple[str, str | None]]:
    return zip(("", ".users", ".status"), response or (None, None, None), strict=True)


def _fill_doccano_part(folder: Path, to: Path, given: Log) -> None:
    to.write_text(_doccano_lines(folder, given), encoding="utf-8", newline="\n")


def _doccano_lines(folder: Path, given: Log) -> str:
    """One member's file: what is neither text nor label is kept as it came, the id is doccano's, `/` is escaped."""
    answers, lines = latest(given), []
    for number, line in enumerate((folder / "doccano.jsonl").read_text(encoding="utf-8").split("\n")[:-1], start=1):
        meta = json.loads(line)
        each = answers.get(meta["item_id"])
        row = {"id": number, "text": meta.pop("text"), **meta, "label": [each.answer] if each else [], "Comments": []}
        lines.append(json.dumps(row, ensure_ascii=False).replace("/", "\\/") + "\n")
    return "".join(lines)
