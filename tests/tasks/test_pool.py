"""The pool as strategies see it: what the model says of it, and the labelled items beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.records import Split
from storage.workspace import Workspace
from tasks.config.settings import SamplingConfig
from tasks.learning.encoders import StaticVectors
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.tokens import Tokens
from tasks.learning.training import TrainingConfig, predict_logits
from tasks.prepare import current_encoder
from tasks.sample import load_pool
from tasks.sampling.strategy import Pool
from tasks.train import train_model

Items = list[tuple[str, str]]
Give = Callable[..., None]
N = 160


def labelled_headlines(workspace: Workspace, take: Callable[..., dict[str, str]], give: Give) -> Items:
    """Headlines with their true labels: 70 for training, 30 for validation, 10 for evaluation, 50 in the pool."""
    workspace.make()
    found = list(take(workspace, N).items())
    give(workspace, dict(found[:70]))
    give(workspace, dict(found[70:100]), Split.VALIDATION)
    give(workspace, dict(found[100:110]), Split.EVALUATION)
    return found


@pytest.fixture
def items(workspace: Workspace, take_headlines: Callable[..., dict[str, str]], give_labels: Give) -> Items:
    """The headlines of a workspace of the test's own, to give labels to."""
    return labelled_headlines(workspace, take_headlines, give_labels)


@dataclass(frozen=True)
class Shared:
    """A workspace to which no test gives labels, and its headlines."""

    workspace: Workspace
    items: Items


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, take_headlines: Callable[..., dict[str, str]], give_labels: Give
) -> Shared:
    workspace = Workspace(tmp_path_factory.mktemp("shared"))
    return Shared(workspace, labelled_headlines(workspace, take_headlines, give_labels))


def loaded(
    workspace: Workspace,
    label_set: LabelSet,
    encoder_name: str = "minilm-static",
    model: LoadedModel | None = None,
    keywords: Sequence[str] = (),
) -> Pool:
    project = project_of(workspace, label_set, encoder_name, sampling=SamplingConfig(keywords=tuple(keywords)))
    return load_pool(project, workspace.store().version(), model)


def texts_of(workspace: Workspace, item_ids: Sequence[str]) -> list[str]:
    known = dict(workspace.store().rows("SELECT item_id, text FROM lake.items"))
    return [known[item_id] for item_id in item_ids]


def logits_of(model: LoadedModel, texts: Sequence[str]) -> np.ndarray:
    return predict_logits(model.classifier, model.read(texts))


def assert_same_tokens(found: Tokens, expected: Tokens) -> None:
    assert (found.ids.tolist(), found.offsets.tolist()) == (expected.ids.tolist(), expected.offsets.tolist())


@pytest.mark.usefixtures("all_families")
@pytest.mark.parametrize(("encoder_name", "hidden"), [("minilm-static", 0), ("minilm-static", 16), ("bag-of-words", 0)])
def test_logits_and_probabilities_are_those_that_the_model_gives_the_texts(
    shared: Shared, label_set: LabelSet, encoder_name: str, hidden: int
) -> None:
    workspace, items = shared.workspace, shared.items
    training = TrainingConfig(hidden=hidden, epochs=3)
    model_id = train_model(project_of(workspace, label_set, encoder_name, training)).model_id
    model = load_model(workspace.models / model_id)
    assert model.classifier.reads_characters == ((encoder_name, hidden) == ("minilm-static", 0))
    pool = loaded(workspace, label_set, encoder_name, model)
    ids = sorted(item_id for item_id, _ in items[110:])
    assert pool.item_ids.to_pylist() == ids
    texts = texts_of(workspace, ids)
    assert_same_tokens(pool.tokens, model.encoder.tokenize(pa.array(texts, pa.string())))
    np.testing.assert_allclose(pool.logits, logits_of(model, texts), atol=1e-5)
    np.testing.assert_allclose(pool.probabilities, model.predict(texts), atol=1e-6)
    assert np.ptp(pool.logits[:, 0]) > 1e-3
    assert model.calibration.temperature != 1.0
    assert pool.head.temperature == model.calibration.temperature
    assert pool.hidden.width == {("minilm-static", 0): 256 + 2, ("bag-of-words", 0): 128}.get(
        (encoder_name, hidden), 16
    )
    hidden_rows = pool.hidden.rows(np.arange(len(pool)))
    np.testing.assert_allclose(hidden_rows @ pool.head.weight.T + pool.head.bias, pool.logits, atol=1e-5)
    for labelled, part in ((pool.training, items[:70]), (pool.validation, items[70:100])):
        own = texts_of(workspace, [item_id for item_id, _ in sorted(part)])
        assert labelled.labels.tolist() == [label_set.names.index(label) for _, label in sorted(part)]
        assert_same_tokens(labelled.tokens, model.encoder.tokenize(pa.array(own, pa.string())))
        np.testing.assert_allclose(labelled.logits, logits_of(model, own), atol=1e-5)


@pytest.mark.parametrize("encoder_name", ["minilm-static", "bag-of-words"])
def test_without_a_model_there_are_the_texts_and_the_labels_and_nothing_of_a_model(
    shared: Shared, label_set: LabelSet, encoder_name: str
) -> None:
    workspace, items = shared.workspace, shared.items
    pool = loaded(workspace, label_set, encoder_name)
    encoder = current_encoder(workspace, encoder_name)
    texts = texts_of(workspace, pool.item_ids.to_pylist())
    assert_same_tokens(pool.tokens, encoder.tokenize(pa.array(texts, pa.string())))
    assert pool.vectors.width == (256 if encoder_name == "minilm-static" else encoder.n_tokens)
    assert (pool.hidden, pool.head) == (None, None)
    assert pool.probabilities.shape == pool.logits.shape == (50, 0)
    assert [part.logits.shape for part in (pool.training, pool.validation)] == [(70, 0), (30, 0)]
    assert pool.training.labels.sum() == sum(label == "not_related" for _, label in items[:70])
    assert pool.positive == 0


def test_labels_that_pal_toml_no_longer_has_are_left_out_but_their_texts_count_as_seen(
    workspace: Workspace, label_set: LabelSet, items: Items, give_labels: Give
) -> None:
    gone = [item_id for item_id, _ in items[110:115]]
    give_labels(workspace, dict.fromkeys(gone, "gone"))
    give_labels(workspace, dict.fromkeys((item_id for item_id, _ in items[115:118]), "gone"), Split.VALIDATION)
    pool = loaded(workspace, label_set)
    assert (len(pool), len(pool.training), len(pool.validation)) == (42, 70, 30)
    training = [item_id for item_id, _ in items[:70]] + gone
    seen = StaticVectors().tokenize(pa.array(texts_of(workspace, training), pa.string())).ids
    assert pool.token_counts.tolist() == np.bincount(seen, minlength=StaticVectors().n_tokens).tolist()


def test_labels_are_numbered_as_pal_toml_has_them_now(shared: Shared, label_set: LabelSet) -> None:
    workspace = shared.workspace
    turned = replace(label_set, labels=label_set.labels[::-1])
    first, second = loaded(workspace, label_set), loaded(workspace, turned)
    assert (first.positive, second.positive) == (0, 1)
    assert second.training.labels.tolist() == (1 - first.training.labels).tolist()
    unmarked = replace(label_set, labels=tuple(replace(label, positive=False) for label in label_set.labels))
    assert loaded(workspace, unmarked).positive is None


def test_each_keyword_is_a_text_and_those_that_the_encoder_does_not_know_whole_are_told_and_dropped(
    shared: Shared, label_set: LabelSet, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = shared.workspace
    words = current_encoder(workspace, "bag-of-words").words  # type: ignore[attr-defined]
    given = ["xyzzy", f"{words[3]} xyzzy", f"{words[3]} {words[1]}", words[2].upper()]
    pool = loaded(workspace, label_set, "bag-of-words", keywords=given)
    assert_same_tokens(pool.keywords, Tokens(np.array([3, 1, 2], np.uint16), np.array([0, 2, 3])))
    assert pool.keyword_names == (f'"{words[3]} {words[1]}"', f'"{words[2].upper()}"')
    assert f"'xyzzy', '{words[3]} xyzzy'" in caplog.text
    assert len(loaded(workspace, label_set).keywords) == 0


def test_a_keyword_with_a_part_without_a_vector_is_not_known(shared: Shared, label_set: LabelSet) -> None:
    pool = loaded(shared.workspace, label_set, keywords=["flood", "\u2603", "flood \u2603"])  # a snowman
    assert pool.keyword_names == ('"flood"',)


def test_a_lake_without_labels_or_with_an_empty_pool_gives_a_pool_of_that_size(
    workspace: Workspace, label_set: LabelSet, take_headlines: Callable[..., dict[str, str]], give_labels: Give
) -> None:
    labels = take_headlines(workspace, 80)
    bare = loaded(workspace, label_set)
    assert (len(bare), len(bare.training), len(bare.validation), bare.token_counts.sum()) == (80, 0, 0, 0.0)
    give_labels(workspace, labels)
    empty = loaded(workspace, label_set, model=train_model(project_of(workspace, label_set)))
    assert (len(empty), empty.logits.shape, empty.probabilities.shape) == (0, (0, 2), (0, 2))
    assert (len(empty.training), empty.validation.logits.shape) == (80, (0, 2))
