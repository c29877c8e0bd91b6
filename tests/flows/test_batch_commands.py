"""The commands about batches that need no server: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from projects import project_of
from typer.testing import CliRunner, Result

from flows.cli.commands import app
from storage.errors import BatchError
from storage.lake.annotations import ingest
from storage.records import Answer, Batch
from storage.workspace import Workspace
from tasks.config.template import config_text, find_preset
from tasks.sample import publish_batches

TEXTS = {"i1": "Floods", "i2": "Cats", "i3": "Fire"}


@pytest.fixture
def pal(workspace: Workspace) -> Callable[..., Result]:
    """Runs a command on the workspace; an error a user can mend is raised."""
    preset = find_preset("demo")
    workspace.config_file.write_text(config_text(preset), encoding="utf-8")

    def run(*arguments: str) -> Result:
        found = CliRunner().invoke(app, ["--workspace", str(workspace.root), *arguments])
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found

    return run


@pytest.fixture
def batch(workspace: Workspace, reserve_batch: Callable[..., Batch]) -> Batch:
    return reserve_batch(workspace, TEXTS)


def give(workspace: Workspace, batch: Batch, who: str, answers: Sequence[str]) -> None:
    given = [Answer(item_id, answer, who, note="why") for item_id, answer in zip(TEXTS, answers, strict=True)]
    ingest(workspace.store(), batch.batch_id, given, f"{who}.csv")


def test_publish_adds_files_of_a_format_to_an_open_batch_and_keeps_what_is_filled_in(
    pal: Callable[..., Result], workspace: Workspace, batch: Batch
) -> None:
    publish_batches(project_of(workspace))
    folder = workspace.batches / batch.batch_id
    (folder / "batch.csv").write_text("filled", encoding="utf-8")
    printed = pal("publish", batch.batch_id, "--format", "doccano,csv", "--format", "original").stdout.split()
    assert printed == [str(folder / name) for name in ("batch.csv", "doccano.jsonl", "original.csv")]
    assert all(Path(path).is_file() for path in printed)
    assert (folder / "doccano-labels.json").is_file()
    assert (folder / "batch.csv").read_text(encoding="utf-8") == "filled"


def test_history_is_told_as_text_and_as_json_and_of_an_item_that_is_not_there_the_nearest(
    pal: Callable[..., Result], workspace: Workspace, batch: Batch
) -> None:
    give(workspace, batch, "anna", ["related", "not_related", "unsure"])
    assert pal("history", "i1").stdout.startswith("Floods\n")
    found = json.loads(pal("history", "i3", "--json").stdout)
    assert (found["label"], found["answers"][0]["answer"], found["answers"][0]["source_file"]) == (
        None,
        "unsure",
        "anna.csv",
    )
    with pytest.raises(BatchError, match="'i'") as caught:
        pal("history", "i")
    assert "i1, i2, i3" in caught.value.hint


def test_agreement_is_of_named_annotators(pal: Callable[..., Result], workspace: Workspace, batch: Batch) -> None:
    give(workspace, batch, "unnamed", ["related", "related", "related"])
    with pytest.raises(BatchError, match="annotators = "):
        pal("agreement")
    give(workspace, batch, "anna", ["related", "not_related", "unsure"])
    give(workspace, batch, "ben", ["related", "related", "not_related"])
    found = json.loads(pal("agreement", "--json").stdout)
    assert [each["annotator"] for each in found["annotators"]] == ["anna", "ben"]
    assert found["overall"][0]["value"] == 0.5
    assert json.loads(pal("agreement", "--unsure", "--json").stdout)["overall"][0]["value"] == pytest.approx(1 / 3)
    assert "0.500" in pal("agreement").stdout


def test_options_that_do_not_go_together_are_wrong_usage(pal: Callable[..., Result]) -> None:
    for arguments in (
        ["next", "--adjudicate", "--another"],
        ["ingest", "--format", "csv"],
        ["review", "--method", "x"],
    ):
        assert pal(*arguments).exit_code == 2
