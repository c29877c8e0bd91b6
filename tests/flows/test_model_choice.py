"""`pal models`, `pal promote` and `pal rollback`: what they show, do and refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from annotation.label_set import LabelSet
from flows.cli.model_choice import model_rows, models_text, promote_by_hand, roll_back
from storage.errors import ModelError
from storage.lake.models import production_model
from storage.records import DecidedBy, Split
from tasks.config.settings import ModelConfig, PromotionConfig, TaskConfig
from tasks.evaluate import evaluate_model
from tasks.learning.model_files import WEIGHTS
from tasks.prepare import make_features
from tasks.project import Project
from tasks.promote import promote_or_keep
from tasks.train import train_model


@pytest.fixture(scope="module")
def two(
    shared_project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> list[str]:
    """Two models, of 100 and of 160 labels, the second in production."""
    project, workspace = shared_project, shared_project.workspace
    pairs = list(take_headlines(workspace, 400).items())
    give_labels(workspace, dict(pairs[:200]), Split.EVALUATION)
    make_features(project)
    quick = project.with_config(model=ModelConfig(epochs=5), promotion=PromotionConfig(margin=1.0))
    made = []
    for end in (300, 360):
        give_labels(workspace, dict(pairs[200:end]))
        model = train_model(quick)
        promote_or_keep(quick, model, evaluate_model(quick, model))
        made.append(model.model_id)
    return made


@pytest.fixture
def chosen(shared_project: Project, two: list[str], copied: Callable[[Project], Project]) -> Project:
    """A copy of their project."""
    return copied(shared_project)


def production(project: Project) -> str | None:
    found = production_model(project.workspace.store())
    return found.model_id if found else None


def test_the_table_has_every_model_its_figures_and_why_it_is_in_production(chosen: Project, two: list[str]) -> None:
    rows = model_rows(chosen)
    assert [(row.model_id, row.n_training, row.n_measured) for row in rows] == [(two[1], 160, 200), (two[0], 100, 200)]
    text = models_text(rows)
    assert max(map(len, text.splitlines()[:4])) <= 115
    starred = [line for line in text.splitlines() if line.startswith("*")]
    assert [line.split()[1] for line in starred] == [two[1]]
    assert f" {rows[0].figures['auc'].value:.3f} [" in starred[0]
    assert "promotion gate" in text
    assert "200 items" in text
    assert "pal models --all" in models_text(rows, most=1)
    assert "pal models --all" not in text


def test_without_a_model_the_way_to_one_is_said(project: Project) -> None:
    assert "pal next" in models_text(model_rows(project))
    with pytest.raises(ModelError):
        roll_back(project)
    with pytest.raises(ModelError, match="'m1'") as raised:
        promote_by_hand(project, "m1", "")
    assert "pal next" in raised.value.hint


def test_a_model_is_promoted_by_hand_by_as_much_of_its_id_as_is_its_own(chosen: Project, two: list[str]) -> None:
    decision = promote_by_hand(chosen, two[0][:9], "it does better on sport")
    assert (decision.model_id, decision.previous_id, decision.decided_by) == (two[0], two[1], DecidedBy.PERSON)
    assert production(chosen) == two[0]
    assert "by a person" in models_text(model_rows(chosen))
    with pytest.raises(ModelError, match=r"\b2\b.*'m00'"):
        promote_by_hand(chosen, "m00", "")


def test_a_rollback_brings_the_one_before_back(chosen: Project, two: list[str]) -> None:
    assert roll_back(chosen).model_id == two[0]
    assert production(chosen) == two[0]
    with pytest.raises(ModelError, match=two[0]):
        roll_back(chosen)


def test_a_model_that_cannot_be_used_is_not_put_into_production(
    chosen: Project, two: list[str], three_labels: LabelSet
) -> None:
    (chosen.workspace.models / two[0] / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="sha256"):
        roll_back(chosen)
    other = chosen.with_config(task=TaskConfig.of(three_labels))
    with pytest.raises(ModelError, match=", ".join(three_labels.names)):
        promote_by_hand(other, two[1], "")
    assert production(chosen) == two[1]
