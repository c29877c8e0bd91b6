"""The pal command as a person or a script uses it: exit codes, streams, errors that say what to type."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import shutil
import sys
from pathlib import Path

import pytest
from projects import pal
from typer.main import get_command

from annotation.synthetic import fill_csv, synthetic_headlines
from flows.cli.commands import GROUPS, app
from flows.import_texts import import_items
from flows.next_batch import next_batch
from flows.run import run_here
from tasks.project import open_project

TABLE = synthetic_headlines(600)
TRUTH = dict(zip(TABLE["item_id"].to_pylist(), TABLE["label"].to_pylist(), strict=True))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    assert pal("init", "w", "--preset", "demo", cwd=tmp_path).returncode == 0
    return tmp_path / "w"


@pytest.fixture(scope="module")
def with_batch_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with 600 items and an open evaluation batch of 20, made by the flows."""
    folder = tmp_path_factory.mktemp("with-batch")
    assert pal("init", "w", "--preset", "demo", cwd=folder).returncode == 0
    path = folder / "headlines.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(zip(["id", *TRUTH], ["text", *TABLE["text"].to_pylist()], strict=True))
    project = open_project(folder / "w")
    run_here(project, import_items, files=(str(path),))
    batch_id = run_here(project, next_batch, n=20)
    project.workspace.close()
    return project.workspace.root, batch_id


@pytest.fixture
def with_batch(with_batch_once: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A copy of it."""
    return Path(shutil.copytree(with_batch_once[0], tmp_path / "w")), with_batch_once[1]


def test_strategies_are_listed_for_people_and_as_json(tmp_path: Path) -> None:
    listed = json.loads(pal("strategies", "--json", cwd=tmp_path).stdout)
    by_name = {each["name"]: each for each in listed}
    assert {"name", "needs", "cost", "source"} <= listed[0].keys()
    assert by_name["random"]["needs"] == []
    assert by_name["entropy"]["needs"] == ["model"]
    shown = pal("strategies", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in shown if not line.startswith(" ")] == list(by_name)
    entropy = " ".join(shown).partition(" entropy ")[2]
    assert all(value in entropy for value in ("model", "O(n)", "Settles (2009)"))


def test_sample_shows_what_a_strategy_would_ask_and_why_and_publishes_nothing(with_batch: tuple[Path, str]) -> None:
    workspace, _ = with_batch
    shown = pal("sample", "--strategy", "outlier", "-n", "3", "--explain", cwd=workspace)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 6
    assert shown.stdout.splitlines()[1].strip(), "why the first is asked"
    as_json = json.loads(pal("sample", "--strategy", "outlier", "-n", "3", "--json", cwd=workspace).stdout)
    assert [item["text"] for item in as_json] == [line.strip()[3:] for line in shown.stdout.splitlines()[::2]]
    assert len(json.loads(pal("status", "--json", cwd=workspace).stdout)["open_batches"]) == 1
    unknown = pal("sample", "--strategy", "outlyer", cwd=workspace)
    assert unknown.returncode == 1
    assert all(value in unknown.stderr for value in ("'outlyer'", "pal strategies"))


def test_init_makes_a_workspace_once_and_says_what_comes_next(tmp_path: Path) -> None:
    made = pal("init", "w", cwd=tmp_path)
    assert made.returncode == 0
    assert "cd w; pal import FILE" in made.stdout
    again = pal("init", "w", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "cd w; pal status" in again.stderr
    assert "Traceback" not in again.stderr


def test_init_takes_a_definition_and_any_labels(tmp_path: Path) -> None:
    made = pal("init", "w", "--labels", "0,1", "--positive", "1", "--definition", "1: spam.", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    task = open_project(tmp_path / "w").label_set
    assert (task.name, task.names, task.positive, task.definition) == ("w", ("0", "1"), "1", "1: spam.")
    assert [label.key for label in task.labels] == ["0", "1"]
    many = ",".join(f"intent {k}" for k in range(77))
    assert pal("init", "v", "--labels", many, cwd=tmp_path).returncode == 0
    label_set = open_project(tmp_path / "v").label_set
    assert (len(label_set.names), label_set.definition) == (77, "")
    assert pal("init", "u", "--definition", "no labels", cwd=tmp_path).returncode == 2
    assert pal("init", cwd=tmp_path).returncode == 2


def on_a_terminal(*arguments: str, cwd: Path, typed: str = "") -> tuple[int, bytes]:
    """Exit code and screen of a command on a pseudo-terminal."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(cwd)
        os.execv(sys.executable, [sys.executable, "-m", "flows.cli.main", *arguments])
    os.write(terminal, typed.encode())
    screen = b""
    with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
        while part := os.read(terminal, 4096):
            screen += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), screen


def test_a_terminal_obeys_no_control_sequence_in_a_text_and_a_pipe_gets_it_as_it_is(workspace: Path) -> None:
    (workspace / "t.csv").write_text("id,text\nred,text \x1b[31mred\x9b0m \u202eevil\n", encoding="utf-8")
    _, imported = on_a_terminal("import", "t.csv", cwd=workspace)
    _, shown = on_a_terminal("show", "red", cwd=workspace)
    for screen in (imported.replace(b"\x1b[?25", b""), shown):
        assert "text ␛[31mred\ufffd0m \ufffdevil".encode() in screen
    assert "\x1b[31mred\x9b0m \u202eevil" in pal("show", "red", cwd=workspace).stdout


def test_on_a_terminal_init_asks_until_the_labels_can_be_used(tmp_path: Path) -> None:
    typed = ["w", "spam", "", "", "", "spam,ham", "spam", "Is it spam?", ""]
    code, _ = on_a_terminal("init", cwd=tmp_path, typed="".join(f"{line}\n" for line in typed))
    assert code == 0
    task = open_project(tmp_path / "w").label_set
    assert (task.names, task.positive, task.question) == (("spam", "ham"), "spam", "Is it spam?")
    assert task.definition == ""


def test_pal_alone_prints_the_status_of_a_workspace_or_the_help(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    status = pal("status", cwd=workspace).stdout
    assert "pal import FILE" in status
    for arguments, cwd in (([], workspace), (["--workspace", str(workspace)], workspace)):
        ran = pal(*arguments, cwd=cwd)
        assert (ran.returncode, ran.stdout) == (0, status)
    ran = pal(cwd=tmp_path / "elsewhere")
    assert (ran.returncode, ran.stdout) == (0, pal("--help", cwd=tmp_path).stdout)


def test_help_lists_every_command_once_in_a_group_and_cuts_no_sentence(tmp_path: Path) -> None:
    names = [name for group in GROUPS.values() for name in group.split()]
    assert sorted(names) == sorted(get_command(app).commands)  # type: ignore[attr-defined]
    shown = pal("--help", cwd=tmp_path).stdout
    assert not re.search(r"\.\.\.$|…", shown.replace("[ARGS]...", ""), re.MULTILINE)
    assert all(f"\n{title}:\n" in shown for title in GROUPS)
    assert max(map(len, shown.splitlines())) <= 80


def test_wrong_usage_exits_2_and_a_missing_workspace_exits_1(tmp_path: Path) -> None:
    assert pal("next", "--number", "0", cwd=tmp_path).returncode == 2
    assert pal("nonsense", cwd=tmp_path).returncode == 2
    ran = pal("status", cwd=tmp_path)
    assert ran.returncode == 1
    assert "pal init DIR" in ran.stderr


def test_commands_that_need_something_first_say_what(workspace: Path) -> None:
    assert "pal import texts.csv" in pal("import", cwd=workspace).stderr
    assert "pal next" in pal("annotate", cwd=workspace).stderr
    assert "pal status" in pal("predict", "a text", cwd=workspace).stderr
    closed = pal("close", "b0001-training", cwd=workspace).stderr
    assert all(value in closed for value in ("'b0001-training'", "pal next"))


def test_debug_shows_the_traceback(workspace: Path) -> None:
    assert "Traceback" in pal("--debug", "close", "b0001", cwd=workspace).stderr


def test_annotate_takes_keys_from_a_pipe_and_status_tells_what_is_not_ingested(with_batch: tuple[Path, str]) -> None:
    workspace, batch_id = with_batch
    ran = pal("annotate", "--annotator", "anna", cwd=workspace, stdin="1\n\nx\nu\n")
    assert ran.returncode == 0, ran.stderr
    assert "pal ingest" in ran.stdout
    lines = (workspace / "batches" / batch_id / "answers-anna.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["answer"] for line in lines] == ["related", "not_related", "unsure"]
    said = pal("status", cwd=workspace).stdout
    assert re.search(r"\b3 of 20\b.*\b3\b", said)
    refused = pal("close", batch_id, cwd=workspace)
    assert refused.returncode == 1
    assert re.search(rf"\b3\b.*{batch_id}", refused.stderr)


def test_ingest_prints_json_alone_on_stdout_and_exits_1_where_rows_were_refused(with_batch: tuple[Path, str]) -> None:
    workspace, batch_id = with_batch
    file = workspace / "batches" / batch_id / "batch.csv"
    fill_csv(file, {**TRUTH, next(iter(TRUTH)): "related"}, most=5)
    text = file.read_text(encoding="utf-8-sig").replace(",not_related,", ",not relatd,", 1)
    file.write_text(text, encoding="utf-8-sig", newline="")
    ran = pal("ingest", "--json", cwd=workspace)
    assert ran.returncode == 1
    (report,) = json.loads(ran.stdout)
    assert (report["n_new"], len(report["errors"])) == (4, 1)
    assert "'not_related'" in report["errors"][0]
    assert Path(report["errors_file"]).is_file()


def test_next_prints_json_alone_on_stdout_and_close_gives_items_back(with_batch: tuple[Path, str]) -> None:
    workspace, batch_id = with_batch
    found = json.loads(pal("next", "--json", cwd=workspace).stdout)
    assert (found["batch_id"], found["purpose"], found["n"]) == (batch_id, "training", 20)
    assert all(Path(file).is_file() for file in found["files"])
    assert json.loads(pal("status", "--json", cwd=workspace).stdout)["pending"] == 20
    assert re.search(r"\b20\b", pal("close", batch_id, cwd=workspace).stdout)
    after = json.loads(pal("status", "--json", cwd=workspace).stdout)
    assert (after["pool"], after["pending"], after["open_batches"]) == (600, 0, [])
