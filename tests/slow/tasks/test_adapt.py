"""Vectors of a workspace's own, by the real MiniLM: blind to what was answered, and whole after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.errors import ModelError
from storage.files.folders import MANIFEST
from storage.lake.items import count_without_features
from storage.records import Split
from storage.workspace import Workspace
from tasks import adapt_encoder as room
from tasks.adapt_encoder import Adaptation, adapt_encoder
from tasks.learning.distillation import Teacher
from tasks.learning.encoders import MINILM_ADAPTED, Encoders
from tasks.learning.model_files import load_model
from tasks.learning.network import FamilyClassifier
from tasks.learning.training import TrainingConfig
from tasks.prepare import current_encoder, make_features
from tasks.sample import load_pool
from tasks.train import train_model

SPAWN = multiprocessing.get_context("spawn")
QUICK = Adaptation(epochs=1, fine_tune_epochs=1)


@pytest.fixture
def filled(
    workspace: Workspace,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Workspace:
    """420 headlines: 10 of each label for training, 100 for evaluation, 300 in the pool."""
    monkeypatch.setattr(room, "MIN_TEXTS", 300)
    monkeypatch.setattr(room, "MIN_LABELLED", 10)
    monkeypatch.setattr(room, "READ", 128)
    labels = take_headlines(workspace, 420)
    training = [
        item
        for label in sorted(set(labels.values()))
        for item in [each for each, its in labels.items() if its == label][:10]
    ]
    give_labels(workspace, {item: labels[item] for item in training})
    others = [item for item in labels if item not in training]
    give_labels(workspace, {item: labels[item] for item in others[:100]}, Split.EVALUATION)
    return workspace


def the_folder(workspace: Workspace) -> Path:
    (folder,) = workspace.encoders.iterdir()
    return folder


@pytest.fixture
def machines(filled: Workspace, shared_root: str, tmp_path: Path) -> list[Workspace]:
    """Three with one lake, that share all other files by an object store; the first is `filled`."""
    lake = {"catalog": f"sqlite:{filled.root}/lake/catalog.sqlite", "data": f"{filled.root}/lake/data"}
    others = [Workspace(tmp_path / name, **lake, files=shared_root) for name in ("second", "third")]
    for other in others:
        other.make()
    return [replace(filled, files=shared_root), *others]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def test_an_adapted_encoder_is_found_again_and_models_train_predict_and_sample_with_it(
    filled: Workspace, label_set: LabelSet
) -> None:
    encoder_id = adapt_encoder(project_of(filled), QUICK)
    manifest = json.loads((the_folder(filled) / MANIFEST).read_text(encoding="utf-8"))
    assert (manifest["n_texts"], manifest["n_labelled"], manifest["labels"]) == (300, 20, list(label_set.names))
    encoder: Any = current_encoder(filled, MINILM_ADAPTED)
    heads = [encoder.taught_head(names) for names in (label_set.names, label_set.names[::-1], ("a", "b"))]
    assert (heads[0].weight.shape, heads[1:]) == ((2, 256), [None, None]), "it is for its own labels only"
    assert encoder.encoder_id == encoder_id == Encoders(filled.encoders).of(encoder_id, None).encoder_id
    adapted, shipped = project_of(filled, encoder=MINILM_ADAPTED), project_of(filled)
    assert make_features(adapted) == encoder_id
    assert count_without_features(filled.store(), encoder_id) == 0
    model = train_model(adapted)
    assert model.model_id != train_model(shipped).model_id
    pool = load_pool(shipped, filled.store().version(), load_model(filled.models / model.model_id, label_set.names))
    assert (model.encoder.encoder_id, len(pool.item_ids)) == (encoder_id, 300)
    np.testing.assert_allclose(pool.probabilities, model.probabilities(pool.vectors.tokens), atol=1e-5)


def test_nothing_that_was_answered_is_read_but_training_items_to_fine_tune_on(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    tuned: list[str] = []
    sentence_vectors, fine_tune = Teacher.sentence_vectors, Teacher.fine_tune
    monkeypatch.setattr(
        Teacher, "sentence_vectors", lambda self, texts: (read.extend(texts), sentence_vectors(self, texts))[1]
    )

    def noted(self: Teacher, texts: list[str], *more: Any) -> None:
        tuned.extend(texts)
        fine_tune(self, texts, *more)
        read.clear()  # it reads the training items to begin with

    monkeypatch.setattr(Teacher, "fine_tune", noted)
    adapt_encoder(project_of(filled), QUICK)
    of_split = {
        split: {
            row[0]
            for row in filled.store().rows(f"""SELECT text FROM lake.items JOIN lake.annotations
            USING (item_id) JOIN lake.batches USING (batch_id) WHERE purpose = '{split.value}'""")
        }
        for split in (Split.TRAINING, Split.EVALUATION)
    }
    assert set(tuned) == of_split[Split.TRAINING]
    assert len(read) == len(set(read)) == 300
    assert not set(read) & (of_split[Split.TRAINING] | of_split[Split.EVALUATION])


def test_the_same_again_does_nothing_and_new_labels_make_a_new_one_beside(
    filled: Workspace,
    label_set: LabelSet,
    give_labels: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, fresh = (filled.encoders / f".minilm-adapted-{name}.work" for name in ("left", "fresh"))
    for folder, age_s in ((left, 100_000), (fresh, 10)):
        folder.mkdir()
        os.utime(folder, (time.time() - age_s,) * 2)
    first = adapt_encoder(project_of(filled), QUICK)
    assert (left.exists(), fresh.exists()) == (False, True), "one was begun long ago, the other may be at work"
    fresh.rmdir()
    before = contents(the_folder(filled))
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "sentence_vectors", lambda *_: pytest.fail("it was read already"))
        assert adapt_encoder(project_of(filled), QUICK) == first
    assert contents(the_folder(filled)) == before
    pool = [row[0] for row in filled.store().rows("SELECT item_id FROM lake.items ORDER BY item_id")]
    give_labels(filled, {pool[-1]: label_set.names[0]}, Split.TRAINING)
    monkeypatch.setattr(room, "MIN_TEXTS", 299)
    second = adapt_encoder(project_of(filled), QUICK)
    assert second != first
    assert len(list(filled.encoders.iterdir())) == 2
    assert current_encoder(filled, MINILM_ADAPTED).encoder_id == second
    assert Encoders(filled.encoders).of(first, None).encoder_id == first, "models of the first still load"


def killed_at(root: Path, call: int) -> None:
    """Adapt, and die by kill -9 in the middle of the sentence encoder's reading."""
    room.MIN_TEXTS, room.MIN_LABELLED, room.READ = 300, 10, 128
    sentence_vectors, calls = Teacher.sentence_vectors, [0]

    def dying(self: Teacher, texts: list[str]) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return sentence_vectors(self, texts)

    Teacher.sentence_vectors = dying  # type: ignore[method-assign]
    adapt_encoder(project_of(Workspace(root)), QUICK)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_after_a_kill_it_goes_on_and_ends_with_the_same_vectors(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = SPAWN.Process(target=killed_at, args=(filled.root, 4))  # fine-tuned, two of three parts read
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (work,) = filled.encoders.glob(".*.work")
    assert {"teacher.safetensors", "000000000.npy", "000000128.npy"} <= {path.name for path in work.iterdir()}
    read: list[int] = []
    sentence_vectors = Teacher.sentence_vectors
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "fine_tune", lambda *_: pytest.fail("it was fine-tuned already"))
        patch.setattr(
            Teacher, "sentence_vectors", lambda self, texts: (read.append(len(texts)), sentence_vectors(self, texts))[1]
        )
        adapt_encoder(project_of(filled), QUICK)
    assert read == [300 - 256]
    found = contents(the_folder(filled))
    (the_folder(filled) / MANIFEST).unlink()
    (the_folder(filled)).rename(filled.root / "aside")
    adapt_encoder(project_of(filled), QUICK)
    assert contents(the_folder(filled)) == found


def test_another_teacher_brings_a_tokenizer_made_from_the_pool_and_models_read_all_families_with_it(
    filled: Workspace, label_set: LabelSet
) -> None:
    minilm = Teacher().folder
    encoder_id = adapt_encoder(project_of(filled), QUICK, minilm)
    encoder: Any = current_encoder(filled, MINILM_ADAPTED)
    assert (encoder.encoder_id, encoder.from_pool, encoder.taught_head(label_set.names)) == (encoder_id, True, None)
    assert encoder.n_tokens < 5_000, "those of 300 headlines"
    before = contents(the_folder(filled))
    shutil.rmtree(the_folder(filled))
    assert adapt_encoder(project_of(filled), QUICK, minilm) == encoder_id
    assert contents(the_folder(filled)) == before
    adapted = project_of(filled, encoder=MINILM_ADAPTED)
    assert make_features(adapted) == encoder_id
    model = train_model(adapted)
    texts = [row[0] for row in filled.store().rows("SELECT text FROM lake.items")]
    assert isinstance(model.classifier, FamilyClassifier)
    assert np.isfinite(load_model(filled.models / model.model_id, label_set.names).predict(texts)).all()


def test_too_few_labels_of_a_kind_leave_the_sentence_encoder_as_it_is_and_no_head(
    filled: Workspace, label_set: LabelSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "MIN_LABELLED", 11)
    adapt_encoder(project_of(filled), QUICK)
    assert any(re.search(r"\b11\b", record.getMessage()) for record in caplog.records if record.levelname == "WARNING")
    assert not (the_folder(filled) / "head.safetensors").exists()
    assert current_encoder(filled, MINILM_ADAPTED).taught_head(label_set.names) is None  # type: ignore[attr-defined]


def test_what_is_missing_says_what_to_type(filled: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="adapt") as caught:
        current_encoder(filled, MINILM_ADAPTED)
    assert "pal adapt" in caught.value.hint
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        adapt_encoder(project_of(filled), QUICK, tmp_path)
    monkeypatch.setattr(room, "MIN_TEXTS", 301)
    with pytest.raises(ModelError, match=r"\b300\b.*\b301\b") as caught:
        adapt_encoder(project_of(filled), QUICK)
    assert "pal import FILE" in caught.value.hint
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match="sentence_transformers") as caught:
        adapt_encoder(project_of(filled), QUICK)
    assert 'pip install "pytorch-active-learning[adapt]"' in caught.value.hint


def test_a_model_whose_adapted_encoder_is_gone_says_so(filled: Workspace) -> None:
    adapt_encoder(project_of(filled), QUICK)
    model_id = train_model(project_of(filled, encoder=MINILM_ADAPTED)).model_id
    (the_folder(filled)).rename(filled.root / "aside")
    with pytest.raises(ModelError, match=re.escape(str(filled.root / "encoders"))) as caught:
        load_model(filled.models / model_id)
    assert "pal adapt" in caught.value.hint


def test_an_encoder_is_adapted_on_one_machine_and_used_on_others_with_the_models_made_with_it(
    machines: list[Workspace], label_set: LabelSet
) -> None:
    first, second, third = machines
    how = replace(QUICK, labels=False)
    encoder_id = adapt_encoder(project_of(first), how)
    assert current_encoder(second, MINILM_ADAPTED).encoder_id == encoder_id
    assert adapt_encoder(project_of(third), how) == encoder_id
    manifests = {(the_folder(each) / MANIFEST).read_bytes() for each in machines}
    assert len(manifests) == 1, "the others did not adapt again"
    shutil.rmtree(the_folder(third))
    projects = [project_of(each, encoder=MINILM_ADAPTED, training=TrainingConfig(epochs=1)) for each in (first, second)]
    model_id = train_model(projects[1]).model_id
    assert load_model(third.model_folder(model_id), label_set.names).encoder.encoder_id == encoder_id
    assert train_model(projects[0]).model_id == model_id
    assert (first.models / model_id / MANIFEST).read_bytes() == (second.models / model_id / MANIFEST).read_bytes()
