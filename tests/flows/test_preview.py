"""What a strategy would ask about: shown with the reason, nothing reserved, nothing published."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from figures import figures

from flows.cli.previews import preview
from storage.errors import SamplingError
from storage.lake.batches import open_batches
from storage.lake.items import count_pool
from storage.lake.models import promote
from storage.records import Split
from tasks.project import Project
from tasks.train import train_model

Take = Callable[..., dict[str, str]]
Give = Callable[..., None]


@pytest.fixture(scope="module")
def trained(shared_project: Project, take_headlines: Take, give_labels: Give) -> Project:
    """300 headlines, 100 of them labelled, and a model in production."""
    project, workspace = shared_project, shared_project.workspace
    items = list(take_headlines(workspace, 300).items())
    give_labels(workspace, dict(items[:100]), Split.TRAINING)
    promote(workspace.store(), train_model(project).model_id)
    return project


def test_each_item_comes_with_its_text_score_and_a_reason_and_nothing_is_reserved(trained: Project) -> None:
    store = trained.workspace.store()
    found = preview(trained, "outlier", 5, None)
    texts = dict(store.rows("SELECT item_id, text FROM lake.items"))
    assert [item.rank for item in found] == [1, 2, 3, 4, 5]
    assert all(item.text == texts[item.item_id] for item in found)
    for item in found:
        why, closest, model = item.reason.split("; ")
        assert len(figures(why)) == 2
        assert re.search(r'".+" \((not_)?related\b.*\d', closest)
        assert re.search(r"\brelated 0\.", model)
    assert open_batches(store) == []
    assert count_pool(store) == 200


def test_the_same_seed_shows_the_same_and_another_seed_others(trained: Project) -> None:
    first, again, other = ([item.item_id for item in preview(trained, "random", 10, seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_before_there_is_a_model_it_works_without_one(project: Project, take_headlines: Take) -> None:
    take_headlines(project.workspace, 50)
    assert ["random" in item.reason for item in preview(project, "random", 2, 0)] == [True] * 2
    with pytest.raises(SamplingError, match=r"\bentropy\b.*\bmodel\b"):
        preview(project, "entropy", 2, 0)


def test_more_than_the_pool_has_and_an_unknown_strategy_are_errors(project: Project, take_headlines: Take) -> None:
    take_headlines(project.workspace, 5)
    with pytest.raises(SamplingError, match=r"\b5\b.*\b6\b.*\brandom\b"):
        preview(project, "random", 6, 0)
    with pytest.raises(SamplingError, match="'randon'"):
        preview(project, "randon", 1, 0)
