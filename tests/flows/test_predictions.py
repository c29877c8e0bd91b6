"""Predictions: what the production model says, text by text, and what is missing where it cannot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import pal, pal_toml

from annotation.label_set import LabelSet
from flows.cli.predicting import predictions
from storage.errors import ModelError, SourceError
from storage.files.spreadsheets import MOST_IN_A_CELL, write_sheet
from storage.lake import outgoing
from storage.lake.models import production_model, promote
from storage.readers.opening import open_source
from storage.readers.rows import EMPTY_TEXT, NUL
from storage.readers.sheets import WorkbookReader
from storage.readers.source import TOO_LONG
from tasks.config.settings import TaskConfig
from tasks.learning.model_files import LoadedModel, load_model
from tasks.predict_file import predict_file
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.train import train_model

TEXTS = ["floods cut off coastal town", "minister opens school", "Überschwemmung"]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> Project:
    """200 headlines, all labelled, and a model of them in production."""
    root = tmp_path_factory.mktemp("trained")
    (root / "pal.toml").write_text(pal_toml(0, 0, 100), encoding="utf-8")
    project = open_project(root)
    give_labels(project.workspace, take_headlines(project.workspace, 200))
    make_features(project)
    promote(project.workspace.store(), train_model(project).model_id)
    return project


def model_of(project: Project) -> LoadedModel:
    current = production_model(project.workspace.store())
    return load_model(project.workspace.models / current.model_id)


def test_without_a_model_that_is_said_with_what_to_type(project: Project) -> None:
    with pytest.raises(ModelError) as raised:
        list(predictions(project, ["a text"], None))
    assert "pal status" in raised.value.hint


@pytest.mark.parametrize("texts", [[], [""], [" ", "\n\t"], ["a text", ""]])
def test_no_text_and_empty_texts_are_refused(trained: Project, texts: list[str]) -> None:
    with pytest.raises(SourceError) as raised:
        list(predictions(trained, texts, None))
    assert "pal predict --file FILE" in raised.value.hint


def test_labels_and_probabilities_are_the_production_models(trained: Project) -> None:
    model = model_of(trained)
    expected = model.predict(TEXTS)
    decided = model.calibration.decisions(expected)
    found = list(predictions(trained, TEXTS, None))
    assert [each["text"] for each in found] == TEXTS
    for each, row, label in zip(found, expected.tolist(), decided.tolist(), strict=True):
        assert each["label"] == model.labels[label]
        assert each["probabilities"] == pytest.approx(dict(zip(model.labels, row, strict=True)), abs=1e-5)
        assert each["probability"] == each["probabilities"][each["label"]]
        assert sum(each["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_texts_and_the_file_after_them_are_labelled_in_order(trained: Project, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("id,said\n1,fire in valley\n2,cake sale\n", encoding="utf-8")
    found = [each["text"] for each in predictions(trained, TEXTS, file, "said")]
    assert found == [*TEXTS, "fire in valley", "cake sale"]


def test_each_row_of_a_file_of_more_than_one_slice_comes_back(
    trained: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.csv"
    lines = [f"{k},fire {k}" for k in range(66_000)]
    lines[500], lines[65_900] = "500,", "65900,fire,flood,hail"
    file.write_text("\n".join(["id,text", *lines]) + "\n", encoding="utf-8")
    assert len(list(open_source(file).chunks())) > 1
    found = list(predictions(trained, [], file))
    assert [(each["row"], each["id"]) for each in found] == [(k + 2, f"{k}") for k in range(66_000)]
    without = {k: (each["text"], each["label"], "reason" in each) for k, each in enumerate(found) if not each["label"]}
    assert without == {500: (None, None, True), 65_900: (None, None, True)}
    assert all(each["text"] == f"fire {k}" for k, each in enumerate(found) if k not in without)
    assert capsys.readouterr().out == ""


ROWS = [
    {"id": f"i{k}", "text": text, "url": url, "Label": "7", "note": note}
    for k, (text, url, note) in enumerate(
        [
            ("floods cut off town", "http://a/1", "=1+1"),
            (None, "http://a/2", 'said "so", twice'),
            ("floods cut off town", "http://a/1", "a duplicate"),
            ("fire\0 two", None, "a\nb"),
            ("long " * 20_001, "http://a/5", None),
            ("Überschwemmung, überall", None, "@sum"),
            (None, None, None),
        ]
    )
]
REASONS = [None, EMPTY_TEXT, None, NUL, TOO_LONG, None, EMPTY_TEXT]
FORMATS = ("csv", "jsonl", "parquet", "xlsx")


def table_file(folder: Path, form: str) -> tuple[Path, list[dict[str, str | None]]]:
    """A file of `ROWS` and its rows; a workbook has no NUL and no long text."""
    rows = [row for row, reason in zip(ROWS, REASONS, strict=True) if form != "xlsx" or reason not in (NUL, TOO_LONG)]
    path = folder / f"in.{form}"
    table = pa.Table.from_pylist(rows)
    if form == "parquet":
        pq.write_table(table.append_column("n", pa.array([*range(len(rows))], pa.int16())), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    elif form == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([list(rows[0]), *(row.values() for row in rows)])
    else:
        workbook = openpyxl.Workbook()
        for values in [list(rows[0]), *(list(row.values()) for row in rows)]:
            workbook.worksheets[0].append(values)
        workbook.worksheets[0]["E2"].data_type = "s"
        workbook.save(path)
    return path, rows


@pytest.mark.parametrize("form", FORMATS)
def test_all_rows_and_columns_of_a_file_come_back_in_order_with_a_prediction_or_a_reason(
    trained: Project, tmp_path: Path, form: str
) -> None:
    path, rows = table_file(tmp_path, form)
    output = tmp_path / "out.parquet"
    done = predict_file(trained, open_source(path), output, "parquet")
    found = pq.read_table(output)
    more = ["n"] if form == "parquet" else []
    assert found.column_names == [*ROWS[0], *more, "label_2", "probability", "reason"]
    assert found.select(list(ROWS[0])).to_pylist() == rows
    if more:
        assert found.schema.field("n").type == pa.int16()
    expected = [reason for row, reason in zip(ROWS, REASONS, strict=True) if row in rows]
    assert found["reason"].to_pylist() == expected
    assert (done.n_rows, done.n_predicted) == (len(rows), 3)
    assert done.columns == {"label": "label_2", "probability": "probability", "reason": "reason"}
    model = model_of(trained)
    with_text = [row["text"] for row, reason in zip(rows, expected, strict=True) if reason is None]
    probabilities = model.predict(with_text)
    labels = [model.labels[k] for k in model.calibration.decisions(probabilities).tolist()]
    assert found["label_2"].drop_null().to_pylist() == labels
    assert found["probability"].drop_null().to_pylist() == pytest.approx(
        [row[model.labels.index(label)] for row, label in zip(probabilities.tolist(), labels, strict=True)], abs=1e-5
    )


@pytest.mark.parametrize("form", FORMATS)
def test_pandas_and_duckdb_join_an_output_with_its_input_by_position_and_by_id(
    trained: Project, tmp_path: Path, form: str
) -> None:
    pandas = pytest.importorskip("pandas")
    path, rows = table_file(tmp_path, form)
    output = tmp_path / f"it's out.{form}"
    predict_file(trained, open_source(path), output, form)
    readers = {
        "csv": pandas.read_csv,
        "parquet": pandas.read_parquet,
        "xlsx": lambda each: pandas.read_excel(each, engine="openpyxl"),
    }
    frames = [pandas.read_json(each, lines=True) if form == "jsonl" else readers[form](each) for each in (path, output)]
    before, after = frames
    assert len(after) == len(before) == len(rows)
    joined = before.merge(after, on="id", suffixes=("", "_out"))
    for both in (pandas.concat([before, after.add_suffix("_out")], axis=1), joined):
        assert len(both) == len(rows)
        assert (both["url"].fillna("") == both["url_out"].fillna("")).all()
        assert both["label_2" if both is joined else "label_2_out"].notna().sum() == 3
    if form == "xlsx":  # DuckDB needs an extension for it
        return
    read = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[form]
    relations = [f"{read}('{str(each).replace(chr(39), 2 * chr(39))}')" for each in (path, output)]
    counted = duckdb.sql(
        f"SELECT count(*), count(label_2), count(reason) FROM {relations[0]} a POSITIONAL JOIN {relations[1]} b "
        "WHERE a.id = b.id AND a.url IS NOT DISTINCT FROM b.url"
    )
    assert counted.fetchall() == [(7, 3, 4)]


def test_a_csv_of_predictions_is_harmless_in_a_spreadsheet(trained: Project, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('text,"=cmd ""x"""\n=1+1,@sum\nfire,3\n', encoding="utf-8")
    predict_file(trained, open_source(path), tmp_path / "out.csv", "csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        head, first, _ = csv.reader(file)
    assert head[:2] == ["\ufefftext", '\'=cmd "x"']
    assert first[:2] == ["'=1+1", "'@sum"]


def test_a_workbook_holds_values_as_far_as_a_spreadsheet_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = ["=1+1", "_x0041_", "a\0b", "x" * 40_000, 12_345_678_901_234_567, 7, 0.5, float("nan"), None, b"b", True]
    write_sheet(tmp_path / "a.xlsx", ["=name"] * len(values), [values])
    (sheet,) = WorkbookReader().sheets(tmp_path / "a.xlsx")
    long = "x" * MOST_IN_A_CELL
    shown = ["=1+1", "_x0041_", "ab", long, "12345678901234567", "7", "0.5", "nan", "", "b'b'", "TRUE"]
    assert sheet.rows[2] == shown
    assert sheet.rows[1] == ["=name"] * len(values)
    assert not sheet.formulas
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_more_rows_than_a_sheet_has_are_refused_and_the_old_file_stays(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = table_file(tmp_path, "csv")
    (tmp_path / "out.xlsx").write_bytes(b"old")
    monkeypatch.setattr(outgoing, "MOST_ROWS", 6)
    with pytest.raises(SourceError):
        predict_file(trained, open_source(path), tmp_path / "out.xlsx", "xlsx")
    assert (tmp_path / "out.xlsx").read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "out.xlsx"]


def test_the_command_reads_stdin_writes_stdout_and_gives_each_line_its_row_and_id(
    trained: Project, tmp_path: Path
) -> None:
    root = trained.workspace.root
    source = "id,text,label\nA1,flood one,x\nA2,,y\nA1,flood one,z\n"
    to_stdout = pal("predict", "--file", "-", "--output", "-", cwd=root, stdin=source)
    assert to_stdout.returncode == 0, to_stdout.stderr
    rows = list(csv.DictReader(to_stdout.stdout.removeprefix("\ufeff").splitlines()))
    assert [(row["id"], row["label"], bool(row["label_2"]), bool(row["reason"])) for row in rows] == [
        ("A1", "x", True, False),
        ("A2", "y", False, True),
        ("A1", "z", True, False),
    ]
    assert "'label_2'" in to_stdout.stderr
    refused = pal("predict", "--file", "-", "--text-column", "none", cwd=root, stdin=source)
    assert refused.returncode == 1
    assert not any("scratch" in said for said in (to_stdout.stderr, refused.stderr, refused.stdout))
    (tmp_path / "in.csv").write_text(source, encoding="utf-8")
    file = str(tmp_path / "in.csv")
    lines = [line.split("\t") for line in pal("predict", "--file", file, cwd=root).stdout.splitlines()]
    assert [line[:2] for line in lines] == [["2", "A1"], ["3", "A2"], ["4", "A1"]]
    assert [len(line) for line in lines] == [5, 6, 5]
    listed = json.loads(pal("predict", "--file", file, "--json", cwd=root).stdout)
    assert [(each["row"], each["id"], each["label"] is None) for each in listed] == [
        (2, "A1", False),
        (3, "A2", True),
        (4, "A1", False),
    ]
    written = json.loads(pal("predict", "--file", file, "-o", str(tmp_path / "o.csv"), "--json", cwd=root).stdout)
    assert (written["n_rows"], written["n_predicted"]) == (3, 2)
    assert (tmp_path / "o.csv").read_text(encoding="utf-8") == to_stdout.stdout
    for output, code in ((file, 1), ("a.docx", 1), (str(tmp_path), 1)):
        assert pal("predict", "--file", file, "--output", output, cwd=root).returncode == code
    assert (tmp_path / "in.csv").read_text(encoding="utf-8") == source
    assert pal("predict", "a text", "--output", "x.csv", cwd=root).returncode == 2
    assert pal("predict", "--pool", cwd=root).returncode == 2


def test_a_model_of_other_labels_is_refused(trained: Project, three_labels: LabelSet) -> None:
    other = trained.with_config(task=TaskConfig.of(three_labels))
    with pytest.raises(ModelError, match="related, not_related") as raised:
        list(predictions(other, TEXTS, None))
    assert "sport, politics, weather" in raised.value.what
    assert "pal next" in raised.value.hint
