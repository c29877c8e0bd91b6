"""Sentence vectors are made once for each item, also across a kill, and are read once every item has one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from projects import project_of

from storage.errors import ModelError
from storage.files.folders import MANIFEST
from storage.lake.items import count_without_features, features_of_texts, pool_ids
from storage.lake.models import promote
from storage.records import Split
from storage.workspace import Workspace
from tasks import prepare
from tasks import sentence_vectors as room
from tasks.evaluate import predict_held_out
from tasks.learning.model_files import load_model
from tasks.learning.sentence_package import sentence_encoder_id
from tasks.learning.sentences import SentenceEncoder
from tasks.learning.stored_model import numpy_model
from tasks.predict_pool import predict_pool
from tasks.prepare import make_features
from tasks.project import Project
from tasks.sample import load_pool
from tasks.scale.shards import KeptShards, Shard
from tasks.sentence_vectors import made_so_far, make_sentence_vectors, stored_vectors, vectors_are_due
from tasks.train import train_model

ENCODER = str(sentence_encoder_id())
N = 90


@pytest.fixture
def project(
    workspace: Workspace, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> Project:
    """90 headlines, 40 of them for training and 10 for evaluation, with tokens and without sentence vectors."""
    pairs = list(take_headlines(workspace, N).items())
    give_labels(workspace, dict(pairs[:40]))
    give_labels(workspace, dict(pairs[40:50]), Split.EVALUATION)
    project = project_of(workspace, sentence="auto")
    make_features(project)
    return project


@pytest.fixture
def sentences_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear models read sentence vectors where they get them, whatever the labeled items would choose."""

    def mix(texts: object, *_: object) -> dict[str, float]:
        rows = texts.rows  # type: ignore[attr-defined]
        return {"sentences": 0.6, "words": 0.4} if "sentences" in rows else {"words": 1.0}

    monkeypatch.setattr("tasks.learning.family_training.choose_mix", mix)


def _die_in_the_third_slice(root: Path) -> None:
    room.ITEMS_OF_A_SLICE = 20
    written, calls = prepare.write_features, []

    def write(*given: object) -> int:
        calls.append(given)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return written(*given)  # type: ignore[arg-type]

    prepare.write_features = write  # type: ignore[assignment]
    make_sentence_vectors(project_of(Workspace(root), sentence="auto"))


def test_after_a_kill_the_rest_is_made(project: Project) -> None:
    store = project.workspace.store()
    assert not vectors_are_due(project, begin=False)
    assert not vectors_are_due(project, N - 1)
    assert vectors_are_due(project, N)
    process = multiprocessing.get_context("spawn").Process(
        target=_die_in_the_third_slice, args=(project.workspace.root,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert made_so_far(project) == (40, N)
    assert vectors_are_due(project, N - 40, begin=False)
    make_sentence_vectors(project)
    assert not vectors_are_due(project)
    rows = store.rows("SELECT count(*), count(DISTINCT item_id) FROM lake.features WHERE encoder_id = ?", [ENCODER])
    assert rows == [(N, N)]
    texts = [row[0] for row in store.rows("SELECT text FROM lake.items ORDER BY item_id")]
    stored = stored_vectors(store, ENCODER, [*texts, "a text of nobody"])
    assert stored is not None
    expected = SentenceEncoder().encode([*texts, "a text of nobody"]).astype(int)
    assert np.abs(stored - expected).max() <= 1
    assert len(features_of_texts(store, ENCODER, [*texts, "a text of nobody", texts[0].upper()])) == N


@pytest.mark.usefixtures("sentences_count")
def test_models_read_them_once_every_item_has_one_and_say_the_same_of_a_text_everywhere(
    project: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    workspace, store = project.workspace, project.workspace.store()
    before = train_model(project)
    assert not before.classifier.reads_sentences
    make_sentence_vectors(project)
    model = train_model(project)
    assert model.classifier.reads_sentences
    assert model.model_id != before.model_id
    assert not train_model(project_of(workspace)).classifier.reads_sentences
    take_headlines(workspace, N + 20, N)
    assert not train_model(project).classifier.reads_sentences, "20 items lack one"
    pool = load_pool(project, store.version(), model)
    assert count_without_features(store, ENCODER) == 0, "what the model needs was made"
    assert len(pool) == N + 20 - 50

    texts = dict(store.rows("SELECT item_id, text FROM lake.items"))
    ids = pool.item_ids.to_pylist()
    alone = model.predict([texts[each] for each in ids])
    np.testing.assert_allclose(pool.probabilities, alone, atol=1e-3)
    numpy_of = numpy_model(workspace.models / model.model_id).predict([texts[each] for each in ids])
    np.testing.assert_allclose(numpy_of, alone, atol=1e-3)
    promote(store, model.model_id)
    predict_pool(project, workspace.root / "all.parquet", "parquet")
    table = pq.read_table(workspace.root / "all.parquet").to_pylist()
    found = {row["item_id"]: row[f"p_{model.labels[0]}"] for row in table}
    np.testing.assert_allclose([found[each] for each in ids], pool.probabilities[:, 0], atol=1e-6)
    held_out = predict_held_out(store, model, store.version())
    assert held_out.probabilities.shape == (10, 2)

    version, encoder_id = store.version(), model.encoder.encoder_id
    own = pool_ids(store, encoder_id, version)
    shard = Shard(
        workspace,
        version,
        encoder_id,
        "minilm-static",
        model.model_id,
        model.labels,
        True,
        (own[5].as_py(), own[24].as_py()),
        20,
    )
    np.testing.assert_allclose(
        KeptShards().vectors(shard).rows(np.arange(20)), pool.hidden.rows(np.arange(5, 25)), atol=1e-6
    )


@pytest.mark.usefixtures("sentences_count")
def test_a_model_that_reads_vectors_of_another_encoder_is_refused(project: Project) -> None:
    make_sentence_vectors(project)
    folder = project.workspace.models / train_model(project).model_id
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["sentence_encoder_id"] == ENCODER
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sentence_encoder_id": "other:1"}), encoding="utf-8")
    for read in (load_model, numpy_model):
        with pytest.raises(ModelError, match="other:1"):
            read(folder)
