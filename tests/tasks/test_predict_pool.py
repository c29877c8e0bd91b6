"""Every item is predicted once, as the model predicts it alone; after a kill the file is the same to the byte."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lake_rows import add_rows, set_context
from projects import project_of

from storage.errors import ModelError, WorkspaceError
from storage.files.folders import MANIFEST
from storage.lake.models import production_model, promote
from storage.lake.outgoing import FileFormat
from storage.records import Batch, Split
from storage.workspace import Workspace
from tasks import predict_pool as room
from tasks.learning.encoders import BAG_OF_WORDS, MINILM_STATIC
from tasks.learning.model_files import load_model
from tasks.learning.training import TrainingConfig
from tasks.predict_pool import PoolPrediction, predict_pool
from tasks.prepare import make_features
from tasks.train import train_model

SPAWN = multiprocessing.get_context("spawn")
QUICK = TrainingConfig(epochs=5)


def trained(workspace: Workspace, encoder: str = MINILM_STATIC) -> str:
    project = project_of(workspace, encoder=encoder, training=QUICK)
    make_features(project)
    model_id = train_model(project).model_id
    promote(workspace.store(), model_id)
    return model_id


@pytest.fixture
def filled(filled_once: Path, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(filled_once, tmp_path / "filled"))


@pytest.fixture(scope="module")
def filled_once(
    shared_workspace: Workspace,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
    reserve_batch: Callable[..., Batch],
) -> Path:
    """303 items: 40 for training, 30 for evaluation, 3 out with annotators, of odd texts; and a model."""
    workspace = shared_workspace
    reserve_batch(workspace, {"i1": 'a "quote", and\na line', "i2": "\u202eright to left\0", "i3": "Zoë 🔥"})
    pairs = list(take_headlines(workspace, 300).items())
    give_labels(workspace, dict(pairs[:40]))
    give_labels(workspace, dict(pairs[40:70]), Split.EVALUATION)
    trained(workspace)
    workspace.close()
    return workspace.root


def predicted(workspace: Workspace, name: str, form: FileFormat = "parquet") -> PoolPrediction:
    return predict_pool(project_of(workspace), workspace.root / name, form)


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list(pq.read_table(path).to_pylist())


@pytest.mark.usefixtures("all_families")
@pytest.mark.parametrize("encoder", [MINILM_STATIC, BAG_OF_WORDS])
def test_every_item_has_the_label_and_the_probability_that_the_model_gives_its_text(
    filled: Workspace, encoder: str
) -> None:
    for folder in filled.models.iterdir():  # made without characters
        shutil.rmtree(folder)
    model_id = trained(filled, encoder)
    set_context(filled, {"label": "mine", "url": "=u"}, "item_id = 'i1'")
    found = predicted(filled, "all.parquet")
    rows = rows_of(filled.root / "all.parquet")
    assert (found.n, found.model_id, len(rows)) == (303, model_id, 303)
    assert [row["item_id"] for row in rows] == sorted(row["item_id"] for row in rows)
    model = load_model(filled.models / model_id)
    assert model.classifier.reads_characters == (encoder == MINILM_STATIC)
    alone = model.predict([row["text"] for row in rows])
    assert np.allclose([row["p_related"] for row in rows], alone[:, 0], atol=1e-6)
    decided = model.calibration.decisions(alone)
    assert [row["label"] for row in rows] == [model.labels[k] for k in decided]
    assert all(row["probability"] == row[f"p_{row['label']}"] for row in rows)
    splits = [row["split"] for row in rows]
    assert {name: splits.count(name) for name in set(splits)} == {
        "training": 40,
        "evaluation": 30,
        "pending": 3,
        "pool": 230,
    }
    assert sum(row["human_label"] is not None for row in rows) == 70
    assert [(row["label_2"], row["url"]) for row in rows if row["url"]] == [("mine", "=u")]


def test_every_id_under_which_a_text_was_imported_has_a_row(filled: Workspace) -> None:
    pairs = [(f"a{k}", "A text twice.") for k in (1, 3, 2)] + [("b1", "Another one.")]
    add_rows(filled.store(), pairs, "ids.csv")
    add_rows(filled.store(), [("a3", "a TEXT twice."), (None, "Another one.")], "again.csv")
    assert predicted(filled, "all.parquet").n == 303 + 4
    rows = {row["id"]: row for row in rows_of(filled.root / "all.parquet")}
    assert [(name, rows[name]["item_id"]) for name in ("a1", "a2", "a3", "b1")] == [
        *((f"a{k}", "a1") for k in (1, 2, 3)),
        ("b1", "b1"),
    ]
    assert len({(rows[f"a{k}"]["label"], rows[f"a{k}"]["probability"]) for k in (1, 2, 3)}) == 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_format_says_the_same_whatever_the_texts(filled: Workspace, form: FileFormat) -> None:
    predicted(filled, "all.parquet")
    predicted(filled, f"all.{form}", form)
    expected = rows_of(filled.root / "all.parquet")
    found = rows_of(filled.root / f"all.{form}")
    for name in ("item_id", "text", "label", "split", "model_id"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    assert np.allclose([float(row["p_related"]) for row in found], [row["p_related"] for row in expected], atol=1e-6)


def die_after_parts(workspace: Workspace, parts: int, rows: int) -> None:
    written = room._predicted
    room.ROWS = rows

    def predicted_or_dead(*arguments: Any) -> Any:
        if len(list((workspace.root / ".all.parquet.parts").glob("*.parquet"))) == parts:
            os.kill(os.getpid(), signal.SIGKILL)
        return written(*arguments)

    room._predicted = predicted_or_dead
    predict_pool(project_of(workspace), workspace.root / "all.parquet", "parquet")


def killed(workspace: Workspace) -> None:
    process = SPAWN.Process(target=die_after_parts, args=(workspace, 2, 100))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (workspace.root / "all.parquet").exists()
    assert len(list((workspace.root / ".all.parquet.parts").glob("*.parquet"))) == 2


def test_a_damaged_note_of_what_is_done_is_no_reason_to_mix(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROWS", 100)
    with monkeypatch.context() as patch:
        parts = iter((room._predicted, room._predicted, lambda *_: 1 / 0))
        patch.setattr(room, "_predicted", lambda *arguments: next(parts)(*arguments))
        with pytest.raises(ZeroDivisionError):
            predicted(filled, "all.parquet")
    assert len(list((filled.root / ".all.parquet.parts").glob("*.parquet"))) == 2
    (filled.root / ".all.parquet.parts" / MANIFEST).write_text("{", encoding="utf-8")
    assert predicted(filled, "all.parquet").n == 303


def test_a_file_that_another_process_writes_is_left_alone(filled: Workspace) -> None:
    from filelock import FileLock

    folder = filled.root / ".all.parquet.parts"
    folder.mkdir()
    with FileLock(folder / "lock"), pytest.raises(WorkspaceError, match=r"all\.parquet"):
        predicted(filled, "all.parquet")


def test_without_items_the_file_has_its_columns_and_without_a_model_that_is_said(
    filled: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="'m9'") as raised:
        predict_pool(project_of(filled), filled.root / "x.csv", "csv", "m9")
    assert str(production_model(filled.store()).model_id) in raised.value.hint  # type: ignore[union-attr]
    bare = Workspace(tmp_path / "bare")
    bare.make()
    with pytest.raises(ModelError):
        predicted(bare, "x.parquet")
