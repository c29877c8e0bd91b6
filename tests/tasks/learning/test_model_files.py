import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import PATIENCE_S

from storage.errors import ModelError
from tasks.learning.encoders import SHIPPED, BagOfWords, Encoder, StaticVectors
from tasks.learning.model_files import MANIFEST, WEIGHTS, LoadedModel, load_model, save_model
from tasks.learning.stored_model import MANIFEST_VERSION, read_texts
from tasks.learning.tokens import Examples
from tasks.learning.training import Target, Trained, TrainingConfig, train

ROOT = Path(__file__).parents[3]
LABELS = ("not_related", "related")
TEXTS = ["flood kills ten", "council meets", "bush fire near town", "new library opens", "", "Überschwemmung in Köln"]
BAG = BagOfWords(("flood", "fire", "council", "überschwemmung", "in", "new"))
FACTS: dict[str, Any] = {"lake_version": 7, "n_training": 6, "code_version": "0.1.0"}


def trained_with(encoder: Encoder, config: TrainingConfig) -> Trained:
    examples = Examples(
        read_texts(encoder, TEXTS, with_characters=encoder.vectors() is not None), np.array([1, 0, 1, 0, 0, 1])
    )
    return train(encoder, examples, examples, config, Target(2, 1))


CASES: dict[str, tuple[Encoder, TrainingConfig]] = {
    "minilm-static": (StaticVectors(), TrainingConfig()),
    "minilm-static-hidden": (StaticVectors(), TrainingConfig(hidden=8, epochs=3)),
    "bag-of-words": (BAG, TrainingConfig(epochs=3)),
    "bag-of-words-hidden": (BAG, TrainingConfig(hidden=8, epochs=3)),
}


def saved(folder: Path, case: str = "bag-of-words") -> tuple[Trained, str]:
    encoder, config = CASES[case]
    trained = trained_with(encoder, config)
    return trained, save_model(folder, trained, encoder, LABELS, config, FACTS)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8", newline="\n")


PREDICT = """
import sys
from pathlib import Path
import numpy as np
from tasks.learning.model_files import load_model
models, texts = Path(sys.argv[1]), sys.argv[2].split("|")
np.savez(models / "found.npz", **{folder.name: load_model(folder).predict(texts) for folder in models.iterdir()})
"""


@pytest.mark.usefixtures("all_families")
def test_a_saved_model_predicts_bit_for_bit_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    models = tmp_path / "models"
    expected = {}
    for case, (encoder, _) in CASES.items():
        trained, _ = saved(models / case, case)
        here = LoadedModel(case, encoder, trained.classifier, trained.calibration, LABELS)
        expected[case] = here.predict(TEXTS)
        assert trained.classifier.reads_characters == (case == "minilm-static")
    command = [sys.executable, "-X", "utf8", "-c", PREDICT, str(models), "|".join(TEXTS)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE_S)
    with np.load(models / "found.npz") as found:
        assert set(found) == set(CASES)
        for case, rows in expected.items():
            assert found[case].dtype == np.float32
            assert found[case].tobytes() == rows.tobytes(), case


def test_a_model_directory_is_weights_and_a_manifest_that_says_everything_else(tmp_path: Path) -> None:
    trained, weights_hash = saved(tmp_path / "m1")
    assert sorted(path.name for path in (tmp_path / "m1").iterdir()) == [MANIFEST, WEIGHTS]
    text = (tmp_path / "m1" / MANIFEST).read_text(encoding="utf-8")
    assert "überschwemmung" in text
    manifest = json.loads(text)
    assert manifest["model_id"] == "m1"
    assert manifest["labels"] == list(LABELS)
    assert manifest["vocabulary"] == list(BAG.words)
    assert manifest["encoder_id"] == BAG.encoder_id
    assert manifest["weights_sha256"] == weights_hash
    assert manifest["epochs"] == trained.epochs
    assert manifest["config"]["epochs"] == 3
    assert manifest.items() >= FACTS.items()


def test_pretrained_vectors_are_not_saved_again(tmp_path: Path) -> None:
    saved(tmp_path / "m1", "minilm-static")
    assert (tmp_path / "m1" / WEIGHTS).stat().st_size < 50_000


def test_a_model_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    _, kept = saved(tmp_path / "m1")
    before = (tmp_path / "m1" / MANIFEST).read_bytes()
    _, returned = saved(tmp_path / "m1", "minilm-static")
    assert returned == kept
    assert (tmp_path / "m1" / MANIFEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m1"]


def test_loading_leaves_the_global_generator_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path / "m1")
    before = torch.get_rng_state().numpy().tobytes()
    load_model(tmp_path / "m1")
    assert torch.get_rng_state().numpy().tobytes() == before


# --- refusals


def test_other_labels_or_another_order_are_refused_with_both_lists(tmp_path: Path) -> None:
    saved(tmp_path / "m1")
    for labels in (("related", "not_related"), ("not_related", "related", "unclear")):
        with pytest.raises(ModelError) as caught:
            load_model(tmp_path / "m1", labels)
        assert all(value in caught.value.what for value in ("m1", "not_related, related", ", ".join(labels)))
        assert "pal next" in caught.value.hint


def test_missing_weights_are_called_missing(tmp_path: Path) -> None:
    _, weights_hash = saved(tmp_path / "m1")
    (tmp_path / "m1" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=rf"{WEIGHTS}.*\bmissing\b.*{weights_hash}"):
        load_model(tmp_path / "m1")


@pytest.mark.parametrize("case", ["minilm-static", "bag-of-words"])
def test_another_encoder_is_refused_with_both_ids(tmp_path: Path, case: str) -> None:
    saved(tmp_path / "m1", case)
    edit(tmp_path / "m1", lambda manifest: manifest.update(encoder_id="other:123"))
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m1")
    assert all(value in caught.value.what for value in ("m1", "'other:123'", repr(CASES[case][0].encoder_id)))
    assert "pal next" in caught.value.hint


def test_a_vocabulary_that_changed_is_another_encoder(tmp_path: Path) -> None:
    saved(tmp_path / "m1")
    edit(tmp_path / "m1", lambda manifest: manifest["vocabulary"].reverse())
    with pytest.raises(ModelError, match=r"\bm1\b.*encoder"):
        load_model(tmp_path / "m1")


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path, there: bool) -> None:
    if there:
        saved(tmp_path / "m1")
        (tmp_path / "m1" / MANIFEST).unlink()
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m1")
    assert all(value in caught.value.what for value in (str(tmp_path / "m1"), MANIFEST))
    assert "pal next" in caught.value.hint


@pytest.mark.parametrize("content", ["", '{"model_id": "m1", "lab', "[]", "{}", "\ufffd"])
def test_a_damaged_manifest_says_so_and_what_to_type(tmp_path: Path, content: str) -> None:
    saved(tmp_path / "m1")
    (tmp_path / "m1" / MANIFEST).write_text(content, encoding="utf-8", newline="\n")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m1")
    assert str(tmp_path / "m1" / MANIFEST) in caught.value.what
    assert all(value in caught.value.hint for value in (str(tmp_path / "m1"), "pal next"))


def test_a_manifest_of_a_later_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    saved(tmp_path / "m1")
    edit(tmp_path / "m1", lambda manifest: manifest.update(manifest_version=99))
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m1")
    assert str(tmp_path / "m1" / MANIFEST) in caught.value.what
    assert re.search(rf"\b99\b.*\b{MANIFEST_VERSION}\b", caught.value.what.removeprefix(str(tmp_path))), "the versions"
    assert "pip install -U pytorch-active-learning" in caught.value.hint


def test_the_cases_cover_every_encoder_that_ships() -> None:
    assert {encoder.encoder_id.split(":")[0] for encoder, _ in CASES.values()} == set(SHIPPED)


def test_a_save_that_another_process_overtook_keeps_the_others_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m1"
    rename = Path.rename

    def overtaken(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        monkeypatch.setattr(os, "getpid", lambda: 1)  # the other process
        saved(folder)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    _, weights_hash = saved(folder)
    assert json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"] == weights_hash
    assert [path.name for path in tmp_path.iterdir()] == ["m1"]
