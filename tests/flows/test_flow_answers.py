"""Whose answers agreement is about, an item's history in words, and a batch's files in more formats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annotation.batch import batch_files, read_manifest
from annotation.formats.registry import FORMATS
from annotation.inbox import waiting_files
from annotation.synthetic import fill_csv
from flows.cli.annotating import agreement_of, consensus_of, consensus_text, history_text, publish_formats
from storage.errors import BatchError
from storage.lake.annotations import ingest
from storage.lake.batches import Draft, close_batch, find_batch, reserve
from storage.lake.history import history_of
from storage.records import Answer, Assignment, Batch, BatchStatus, Proposal, Purpose
from tasks.config.settings import BatchConfig
from tasks.prepare import make_features
from tasks.project import Project
from tasks.sample import publish_batches

TEXTS = {"i1": "Floods", "i2": "Cats", "i3": "Fire", "i4": "Tea"}
START = datetime(2026, 1, 2, tzinfo=UTC)


def reserved(project: Project, purpose: Purpose, *item_ids: str, **more: object) -> str:
    proposals = [Proposal(item_id, "x", None, 1) for item_id in item_ids]
    draft = Draft(purpose, item_ids, proposals, 0, project.workspace.store().version(), "d", **more)  # type: ignore[arg-type]
    return reserve(project.workspace.store(), draft, beside_open=True)[0].batch_id


def give(project: Project, batch_id: str, who: str, answers: str, at: int = 0) -> None:
    """Ingest answers as in "i1:related i2:unsure", one of two seconds after another from minute `at` on."""
    pairs = [pair.split(":") for pair in answers.split()]
    given = [
        Answer(item_id, answer, who, "", 2.0, START + timedelta(minutes=at, seconds=2 * k))
        for k, (item_id, answer) in enumerate(pairs)
    ]
    ingest(project.workspace.store(), batch_id, given, f"{who}.jsonl")


@pytest.fixture
def batch(project: Project, reserve_batch: Callable[..., Batch]) -> str:
    """Four items, out with annotators, whose files are not written yet."""
    return reserve_batch(project.workspace, TEXTS).batch_id


# Agreement


def test_agreement_is_of_independent_answers_under_a_name(project: Project, batch: str) -> None:
    give(project, batch, "unnamed", "i1:not_related i2:not_related")
    give(project, batch, "anna", "i1:related i2:related i3:not_related i4:unsure")
    give(project, batch, "ben", "i1:not_related i2:related i3:not_related i1:related")
    give(project, batch, "cleo", "i4:skip")
    close_batch(project.workspace.store(), batch)
    again = reserved(project, Purpose.ADJUDICATION, "i1", "i3")
    give(project, again, "zoe", "i1:not_related i3:related", at=9)
    found = agreement_of(project)
    assert [(each.annotator, each.n_answers) for each in found.annotators] == [("anna", 4), ("ben", 3)]
    assert (found.n_items, found.n_several) == (4, 3)
    assert [metric.value for metric in found.overall if metric.name == "percent_agreement"] == [1.0]
    assert {each.median_s for each in found.annotators} == {2.0}
    anna = found.annotators[0]
    assert anna.confusion["not_related"]["related"] == anna.confusion["related"]["not_related"] == 1, "as settled"
    unsure = agreement_of(project, unsure_counts=True)
    assert (unsure.n_items, unsure.n_several) == (4, 3)


def test_gold_tells_how_often_those_who_were_asked_unmarked_are_right(project: Project, batch: str) -> None:
    give(project, batch, "anna", "i1:related i2:related")
    give(project, batch, "ben", "i1:not_related i2:not_related")
    close_batch(project.workspace.store(), batch)
    again = reserved(project, Purpose.ADJUDICATION, "i1", "i2")
    give(project, again, "zoe", "i1:related i2:related", at=5)
    asked = [Assignment("i3", "cleo"), *(Assignment(item_id, "cleo", gold=True) for item_id in ("i1", "i2"))]
    gold = reserved(project, Purpose.TRAINING, "i3", assignments=asked)
    give(project, gold, "cleo", "i1:related i2:not_related i3:related", at=9)
    found = {each.annotator: each for each in agreement_of(project).annotators}
    assert {name: each.n_gold for name, each in found.items()} == {"anna": 0, "ben": 0, "cleo": 2}
    assert found["cleo"].gold.value == 0.5
    assert find_batch(project.workspace.store(), gold).batch.status is BatchStatus.INGESTED
    assert history_of(project.workspace.store(), "i2").label == "related"


def test_answers_that_pal_toml_has_no_label_for_any_more_are_left_out(project: Project, batch: str) -> None:
    give(project, batch, "anna", "i1:flood i2:related")
    give(project, batch, "ben", "i1:flood i2:related")
    assert [each.n_answers for each in agreement_of(project).annotators] == [1, 1]


def test_consensus_weighs_annotators_and_lists_the_most_doubtful_labels_first(
    project: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    pytest.importorskip("cleanlab")
    truth = take_headlines(project.workspace, 400)
    make_features(project)
    both = [
        [item_id for item_id in sorted(truth) if truth[item_id] == label][:25] for label in ("related", "not_related")
    ]
    ids = [*both[0], *both[1]]
    batch_id = reserved(project, Purpose.TRAINING, *ids, overlap=3)
    for who, wrong in (("anna", 0), ("ben", 1), ("cleo", 8)):  # of each label
        turned = {*both[0][:wrong], *both[1][:wrong]}
        other = {"related": "not_related", "not_related": "related"}
        give(project, batch_id, who, " ".join(f"{i}:{other[truth[i]] if i in turned else truth[i]}" for i in ids))
    found = consensus_of(project)
    quality = found["annotators"]
    assert list(quality) == ["anna", "ben", "cleo"]
    assert min(quality["anna"], quality["ben"]) > quality["cleo"]
    assert [each["quality"] for each in found["items"]] == sorted(each["quality"] for each in found["items"])
    assert {each["item_id"] for each in found["items"]} == set(ids)
    doubtful = {each["item_id"] for each in found["items"][:5]}
    assert {both[0][0], both[1][0]} <= doubtful <= {*both[0][:8], *both[1][:8]}, "two of three are wrong in the two"
    lines = consensus_text(found, most=3).splitlines()
    assert lines[1].split()[0] == "anna"
    assert len(lines) == 9, "a heading and three annotators, a gap, a heading and three items"
    assert found["items"][0]["item_id"] in lines[-3]


# History


def test_history_marks_what_counts_and_says_when_by_whom_and_from_where(project: Project, batch: str) -> None:
    store = project.workspace.store()
    text, label = history_text(history_of(store, "i1")).splitlines()
    assert (text, "related" in label) == ("Floods", False)
    ingest(store, batch, [Answer("i1", "related", "anna", "sure", 2.25, START)], "anna.jsonl")
    give(project, batch, "ben", "i1:not_related", at=1)
    text, label, *events, _, guideline = history_text(history_of(store, "i1")).splitlines()
    assert (text, "related" in label, "training" in label) == ("Floods", False, True)
    assert events == [
        f"  * 2026-01-02 00:00:00 UTC  anna: related  ({batch}, 2.2 s; anna.jsonl)",
        "      note: sure",
        f"  * 2026-01-02 00:01:00 UTC  ben: not_related  ({batch}, 2.0 s; ben.jsonl)",
    ]
    assert guideline.endswith(f"{batch}/manifest.json")
    again = reserved(project, Purpose.ADJUDICATION, "i1")
    ingest(store, again, [Answer("i1", "related", "zoe", annotated_at=START + timedelta(minutes=9))], "z.csv")
    lines = history_text(history_of(store, "i1")).splitlines()
    assert all(value in lines[1] for value in (" related", "training"))
    assert [line for line in lines if line.startswith("  * 2026")] == [
        f"  * 2026-01-02 00:09:00 UTC  zoe: related  ({again}; z.csv)"
    ]


# More formats


@pytest.fixture
def team(project: Project) -> Project:
    """Two annotators, both asked about each item."""
    return project.with_config(batch=BatchConfig(formats=("csv",), annotators=("anna", "Ben Q"), overlap=2))


@pytest.fixture
def shared(team: Project, batch: str) -> str:
    """A published batch of two items for both."""
    close_batch(team.workspace.store(), batch)
    asked = [Assignment(item_id, who) for who in ("anna", "Ben Q") for item_id in ("i1", "i2")]
    made = reserved(team, Purpose.TRAINING, "i1", "i2", overlap=2, formats=("csv",), assignments=asked)
    publish_batches(team)
    return made


def test_more_formats_are_written_for_each_annotator_beside_what_is_filled_in(team: Project, shared: str) -> None:
    folder = team.workspace.batches / shared
    fill_csv(folder / "batch-anna.csv", {"i1": "related"}, annotator="anna")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    found = publish_formats(team, shared, ["label-studio", "csv"])
    new = [path.name for path in found if path.name.startswith("label-studio")]
    assert sorted(new) == sorted(FORMATS["label-studio"].path(folder, who).name for who in ("anna", "Ben Q"))
    assert {path.name for path in found} == {*new, *(name for name in before if name.startswith("batch-"))}
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {path.name for path in folder.iterdir()} == {*before, *new, "label-studio-config.xml", "manifest.json"}
    assert {(each.format, each.annotator) for each in batch_files(folder)} == {
        (form, who) for form in ("csv", "label-studio") for who in ("anna", "Ben Q")
    }
    waiting = [file.path.name for file in waiting_files(team.workspace)]
    assert waiting == ["batch-anna.csv"], "the one filled in, and none of the new ones"


def test_publishing_formats_again_changes_nothing_and_a_lost_file_comes_back(team: Project, shared: str) -> None:
    folder = team.workspace.batches / shared
    paths = publish_formats(team, shared, ["doccano"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert publish_formats(team, shared, ["doccano"]) == paths
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    paths[0].unlink()
    assert publish_formats(team, shared, ["doccano"]) == paths
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_a_format_those_of_pal_toml_are_written(team: Project, shared: str) -> None:
    changed = team.with_formats(["html", "csv"])
    names = {path.name for path in publish_formats(changed, shared, [])}
    assert {Path(name).suffix for name in names} == {".html", ".csv"}
    assert len(names) == 4


def test_files_that_a_crash_left_unwritten_are_written_with_the_new_ones(project: Project, batch: str) -> None:
    publish_formats(project, batch, ["html"])
    folder = project.workspace.batches / batch
    assert {path.name for path in folder.iterdir()} == {"batch.csv", "batch.html", "definition.txt", "manifest.json"}
    assert set(read_manifest(folder)["files"]) == {"batch.csv", "batch.html", "definition.txt"}


def test_there_must_be_such_a_batch_open_and_such_a_format(project: Project, batch: str) -> None:
    with pytest.raises(BatchError, match="'b9'"):
        publish_formats(project, "b9", ["csv"])
    with pytest.raises(BatchError, match="'pdf'"):
        publish_formats(project, batch, ["csv", "pdf"])
    assert not (project.workspace.batches / batch).exists(), "nothing was written"
    give(project, batch, "anna", "i1:related i2:related i3:related i4:skip")
    with pytest.raises(BatchError, match=rf"{batch}.*\bingested\b") as caught:
        publish_formats(project, batch, ["csv"])
    assert "pal status" in caught.value.hint
