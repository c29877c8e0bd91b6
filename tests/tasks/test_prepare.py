"""Stage `prepare`: features are made once, and a vocabulary is fitted again only for a lake of twice the size."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pyarrow as pa
import pytest
from lake_rows import add_rows
from projects import project_of

from storage.lake.items import count_without_features, newest_vocabulary
from storage.workspace import Workspace
from tasks.learning.encoders import MOST_FRAGMENTS, StaticVectors, fragments_per_letter
from tasks.prepare import make_features

Take = Callable[..., dict[str, str]]


def n_features(workspace: Workspace) -> dict[str, int]:
    sql = "SELECT encoder_id, count(*) FROM lake.features GROUP BY encoder_id"
    return dict(workspace.store().rows(sql))


def test_features_are_made_once_and_then_only_for_new_items(
    workspace: Workspace, take_headlines: Take, caplog: pytest.LogCaptureFixture
) -> None:
    store = workspace.store()
    take_headlines(workspace, 60)
    with caplog.at_level(logging.INFO):
        encoder_id = make_features(project_of(workspace))
        version = store.version()
        assert make_features(project_of(workspace)) == encoder_id
        assert store.version() == version
        take_headlines(workspace, 85, start=60)
        assert count_without_features(store, encoder_id) == 25
        make_features(project_of(workspace))
    assert n_features(workspace) == {encoder_id: 85}
    assert store.rows("SELECT count(DISTINCT item_id) FROM lake.features") == [(85,)]
    told = [re.findall(r"\b(?:60|25)\b", message) for message in caplog.messages if encoder_id in message]
    assert told == [["60"], ["25"]]


def test_an_empty_lake_needs_no_features(workspace: Workspace) -> None:
    make_features(project_of(workspace))
    assert n_features(workspace) == {}


def test_the_vocabulary_is_fitted_again_when_the_lake_has_doubled_and_not_before(
    workspace: Workspace, take_headlines: Take
) -> None:
    store = workspace.store()
    take_headlines(workspace, 100)
    first = make_features(project_of(workspace, encoder="bag-of-words"))
    take_headlines(workspace, 199, start=100)
    assert make_features(project_of(workspace, encoder="bag-of-words")) == first
    assert store.rows("SELECT n_items FROM lake.vocabularies") == [(100,)]
    take_headlines(workspace, 200, start=199)
    second = make_features(project_of(workspace, encoder="bag-of-words"))
    assert second != first
    assert n_features(workspace) == {first: 199, second: 200}
    newest = newest_vocabulary(store)
    assert newest[0] == 200
    assert make_features(project_of(workspace, encoder="bag-of-words")) == second


@pytest.mark.parametrize(
    ("texts", "is_covered"),
    [
        (["Where is the refund for my card payment?", "Flood warning for the river valley"], True),
        (["Randomized controlled trial of metformin in patients with type 2 diabetes mellitus"], True),
        (["?!", "https", ""], True),
        (["味道不错，送餐很快", "太慢了"], False),
        (["Правительство утвердило новый закон о пенсиях"], False),
        (["Der Bundestag hat am Donnerstag ein neues Gesetz beschlossen", "Die Rechnung wurde abgebucht"], False),
        (["Hükümet yeni eğitim yasasını mecliste onayladı"], False),
        (["🙈🙉 ᚠᚢᚦᚨᚱᚲ ᚷᚹᚺᚾ"], False),
        (["อาหารอร่อยมากแต่บริการช้าไปหน่อย"], False),
    ],
)
def test_a_language_of_many_fragments_is_not_covered(texts: list[str], is_covered: bool) -> None:
    encoder, n_letters = StaticVectors(), sum(map(str.isalnum, "".join(texts)))
    fragments = fragments_per_letter(encoder, n_letters, encoder.tokenize(pa.array(texts)))
    assert (fragments <= MOST_FRAGMENTS) is is_covered


def test_a_language_that_the_encoder_does_not_cover_is_said_once(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    for k, (text, n_warnings) in enumerate((("Flood warning for the river valley", 0), ("味道不错，送餐很快", 1))):
        add_rows(workspace.store(), [(f"t{k}", text)], "test")
        for _ in range(2):
            make_features(project_of(workspace))
        warnings = [record.name for record in caplog.records if record.levelname == "WARNING"]
        assert warnings == ["tasks.prepare"] * n_warnings
