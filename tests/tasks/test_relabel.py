"""Labels changed in pal.toml and in the lake as one step: what it does, kills, edits by hand, and models of before."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import pal_toml
from typer.testing import CliRunner

import tasks.relabel
from annotation.label_set import Label, LabelSet
from flows.change_labels import ask_again, change_labels
from flows.cli.annotating import publish_formats
from flows.cli.commands import app
from flows.cli.label_commands import forecast_text, history_of, labels_of
from flows.cli.model_commands import export as export_labelled
from flows.cli.options import Call
from flows.cli.status import status_of
from flows.import_texts import check_import
from flows.ingest import check_ingest
from flows.next_batch import check_next, next_batch
from flows.nightly import nightly
from flows.review import adjudicate, review
from flows.run import run_here
from storage.errors import ConfigError, ModelError
from storage.files.folders import MANIFEST
from storage.lake.annotations import label_counts, labelled_texts
from storage.lake.batches import close_batch, items_of, published_batches
from storage.lake.codebook import codebook_of
from storage.lake.models import promote
from storage.records import Purpose, Split
from tasks.collect import collect_answers
from tasks.config.template import LabelEdit, edited
from tasks.export import export
from tasks.import_files import ReadOptions
from tasks.learning.model_files import load_model
from tasks.learning.stored_model import Outputs
from tasks.predict_file import model_in_production
from tasks.project import Project, command_of, open_project, possible_changes
from tasks.relabel import plan_relabeling, relabel
from tasks.train import train_model

RENAME = LabelEdit("rename", ("related",), ("disaster",))
TOPICS = LabelSet("topics", "Which?", "...", tuple(Label(name) for name in ("flood", "fire", "sport", "other")))
HANDMADE = """# mine
[task]
name = "t"
question = "?"
definition = "..."
labels = [
  # first
  { name = "flood", key = "1", positive = true },  # rare
  { name = "fire", key = "2" },
  { name = "other", key = "0", default = true },
]
[model]
seed = 7  # keep
"""


@pytest.fixture
def topics(project: Project) -> Project:
    """A project with the labels of `TOPICS`."""
    return retold(project, pal_toml(60, 0, 30, TOPICS))


def retold(project: Project, text: str) -> Project:
    """The project after an edit of pal.toml by hand."""
    project.workspace.config_file.write_text(text, encoding="utf-8")
    return open_project(project.workspace.root)


def make(project: Project, edit: LabelEdit, *, ask: bool = False, ask_about: str | None = None) -> Project:
    """Change labels; the project afterwards."""
    run_here(project, change_labels, plan_relabeling(project, edit, "why", ask_about), ask)
    return open_project(project.workspace.root)


def shown(project: Project) -> Any:
    return tomllib.loads(project.workspace.config_file.read_text(encoding="utf-8"))["task"]["labels"]


@pytest.mark.parametrize(
    ("edit", "labels"),
    [
        (
            LabelEdit("rename", ("flood",), ("water",)),
            [("water", "1", True), ("fire", "2", None), ("other", "0", None)],
        ),
        (LabelEdit("merge", ("fire", "flood"), ("fire",)), [("fire", "2", True), ("other", "0", None)]),
        (LabelEdit("merge", ("flood", "fire"), ("hazard",)), [("hazard", "1", True), ("other", "0", None)]),
        (LabelEdit("retire", ("flood",)), [("fire", "2", None), ("other", "0", None)]),
        (
            LabelEdit("add", (), ("storm",)),
            [*[("flood", "1", True), ("fire", "2", None)], ("other", "0", None), "storm"],
        ),
        (
            LabelEdit("split", ("fire",), ("bush", "house")),
            [("flood", "1", True), ("bush", "2", None), "house", "other"],
        ),
        (
            LabelEdit("split", ("fire",), ("fire", "arson")),
            [("flood", "1", True), ("fire", "2", None), "arson", "other"],
        ),
    ],
)
@pytest.mark.parametrize("style", ["inline", "tables", "windows"])
def test_the_labels_change_in_pal_toml_and_every_other_line_stays(
    edit: LabelEdit, labels: list[Any], style: str
) -> None:
    text = HANDMADE
    if style == "tables":
        entries = (
            f'[[task.labels]]\nname = "{n}"\nkey = "{k}"\n{m}\n'
            for n, k, m in (("flood", "1", "positive = true"), ("fire", "2", ""), ("other", "0", "default = true"))
        )
        text = HANDMADE[: HANDMADE.index("labels = [")] + "".join(entries) + HANDMADE[HANDMADE.index("[model]") :]
    content = text.encode() if style != "windows" else b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    after = edited(content, edit, Path("pal.toml"))
    found = tomllib.loads(after.decode("utf-8-sig"))["task"]["labels"]
    for entry, wanted in zip(found, labels, strict=True):
        each = (entry["name"], entry.get("key"), entry.get("positive"))
        assert wanted in (each, each[0])
    assert edited(after, edit, Path("pal.toml")) == after, "made already"
    assert after.startswith(content[:10])
    assert after.endswith(content[-24:])
    assert after.count(b"#") == content.count(b"#") - (
        style != "tables" and edit.labels[:1] == ("flood",) and edit.kind in ("retire",)
    ) - (style != "tables" and edit.into == ("fire",))


def test_a_label_edited_by_hand_is_refused_everywhere_until_a_command_says_what_became_of_it(
    project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    truth = take_headlines(project.workspace, 60)
    give_labels(project.workspace, truth)
    before = label_counts(project.workspace.store())
    text = project.workspace.config_file.read_text(encoding="utf-8")
    renamed = retold(project, text.replace('name = "related"', 'name = "disaster"'))
    for refused in (
        lambda: check_next(renamed, another=True),
        lambda: check_ingest(renamed, []),
        lambda: collect_answers(renamed),
        lambda: run_here(renamed, review),
        lambda: run_here(renamed, adjudicate),
        lambda: run_here(renamed, nightly),
        lambda: run_here(renamed, ask_again),
        lambda: publish_formats(renamed, "b0001-training", ()),
        lambda: check_import(renamed, [Path("x.csv")], "", ReadOptions(label_column="label")),
        lambda: export_labelled(Call(renamed.workspace.root), renamed.workspace.root / "x.csv"),
    ):
        with pytest.raises(ConfigError, match="related"):
            refused()
    assert "related" in status_of(renamed).lost_labels
    assert possible_changes(renamed, ["related"]) == ["pal labels rename related disaster", "pal labels retire related"]
    kept = renamed.workspace.config_file.read_bytes()
    planned = plan_relabeling(renamed, RENAME)
    assert (planned.edits_file, planned.effect.to_ask) == (False, ())
    assert "related" in planned.change.labels_before if planned.change else False
    after = make(renamed, RENAME)
    assert after.workspace.config_file.read_bytes() == kept
    counts = label_counts(after.workspace.store())
    n = before[Split.TRAINING]
    assert counts[Split.TRAINING] == {"disaster": n["related"], "not_related": n["not_related"]}
    assert status_of(after).lost_labels == {}
    behind = retold(after, text)  # as on another machine with this lake
    assert possible_changes(behind, ["disaster"])[0] == "pal labels rename related disaster"
    assert shown(make(behind, RENAME))[0]["name"] == "disaster"
    assert codebook_of(after.workspace.store()).number == 2, "made once"


STEPS = ["before the note", "before the commit", "after the commit", "after pal.toml"]


@pytest.mark.parametrize("step", STEPS)
def test_wherever_it_is_killed_the_next_command_finds_all_of_it_or_nothing(
    step: str,
    project: Project,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_labels(project.workspace, take_headlines(project.workspace, 60))
    planned = plan_relabeling(project, RENAME)
    before, counts = project.workspace.config_file.read_bytes(), label_counts(project.workspace.store())
    names = {"before the note": "write_whole", "before the commit": "change_labels", "after the commit": "_write"}
    with monkeypatch.context() as patch:
        if step in names:
            patch.setattr(tasks.relabel, names[step], killed)
        else:
            unlink = Path.unlink
            patch.setattr(
                Path, "unlink", lambda path, **how: killed() if path.suffix == ".json" else unlink(path, **how)
            )
        with pytest.raises(KeyboardInterrupt):
            relabel(project, planned, ask=False)
    found = open_project(project.workspace.root)
    found_counts = label_counts(found.workspace.store())
    if step in STEPS[:2]:
        assert (found.workspace.config_file.read_bytes(), found_counts) == (before, counts)
    else:
        assert "disaster" in found.label_set.names
        assert found_counts[Split.TRAINING].keys() == {"disaster", "not_related"}
    assert [path for path in (found.workspace.root / "lake").iterdir() if path.suffix == ".json"] == []
    again = make(found, RENAME)
    assert again.label_set.names == ("disaster", "not_related")
    assert codebook_of(again.workspace.store()).number == 2


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("edit", "from_"),
    [
        (LabelEdit("merge", ("flood", "fire"), ("hazard",)), None),
        (LabelEdit("split", ("fire",), ("fire", "arson")), None),
        (LabelEdit("retire", ("sport",)), None),
        (LabelEdit("add", (), ("storm",)), "flood"),
    ],
)
def test_the_forecast_is_what_happens_and_the_review_batch_has_just_these_items(
    topics: Project,
    edit: LabelEdit,
    from_: str | None,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> None:
    ids = sorted(take_headlines(topics.workspace, 40))
    truth = {item_id: TOPICS.names[k % 4] for k, item_id in enumerate(ids)}
    give_labels(topics.workspace, {item_id: truth[item_id] for item_id in ids[:30]})
    give_labels(topics.workspace, {item_id: truth[item_id] for item_id in ids[30:]}, Split.EVALUATION)
    store = topics.workspace.store()
    planned = plan_relabeling(topics, edit, ask_about=from_)
    effect, going = planned.effect, from_ or ("" if edit.kind == "merge" else edit.labels[0])
    asked = {item_id for item_id in ids if truth[item_id] == going}
    assert {*effect.to_ask} == asked
    assert effect.n_evaluation == len(asked & {*ids[30:]})
    assert str(len(asked)) in forecast_text(planned)
    after = make(topics, edit, ask=True, ask_about=from_)
    opened = published_batches(store)
    assert [batch.purpose for batch in opened] == [Purpose.REVIEW] * bool(asked)
    assert {item.item_id for batch in opened for item in items_of(store, batch.batch_id)} == asked
    assert all(batch.codebook == 2 for batch in opened)
    for batch in opened:
        manifest = json.loads((after.workspace.batches / batch.batch_id / MANIFEST).read_text(encoding="utf-8"))
        assert [label["name"] for label in manifest["labels"]] == list(after.label_set.names)
    labels = {**labelled(after, Split.TRAINING), **labelled(after, Split.EVALUATION)}
    became = dict.fromkeys(edit.labels, "hazard") if edit.kind == "merge" else {}
    lost = asked if edit.kind != "add" else set()
    assert labels == {item_id: became.get(name, name) for item_id, name in truth.items() if item_id not in lost}
    changes = labels_of(after)["changes"]
    assert {(change.kind, change.reason) for change in changes} == {(edit.kind, "why")}
    assert plan_relabeling(after, edit, ask_about=from_).change is None, "twice changes nothing"


def test_the_history_has_each_guideline_with_its_batches_and_what_differs_between_the_label_changes(
    topics: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    take_headlines(topics.workspace, 300)
    store = topics.workspace.store()

    def published(project: Project) -> str:
        batch_id = run_here(project, next_batch)
        assert batch_id is not None
        close_batch(store, batch_id)
        return batch_id

    first = [published(topics), published(topics)]
    (path := topics.workspace.config_file).write_text(
        path.read_text(encoding="utf-8").replace('definition = "..."', 'definition = "By place."'), encoding="utf-8"
    )
    edited_ = [published(open_project(topics.workspace.root))]
    after = make(open_project(topics.workspace.root), LabelEdit("rename", ("flood",), ("water",)))
    renamed = [published(after)]
    (after.workspace.batches / renamed[0] / MANIFEST).unlink()
    rows = history_of(after)
    assert [row["batch_ids"] for row in rows] == [first, edited_, [], renamed]
    assert rows[0]["changed"]["question"] == TOPICS.question
    assert rows[1]["changed"] == {"definition": "By place."}
    assert all(word in rows[2]["text"] for word in ("rename", "flood", "water", "why"))
    assert rows[3]["changed"] == {}, "the text is gone with the manifest"


def labelled(project: Project, split: Split) -> dict[str, str]:
    store = project.workspace.store()
    table = labelled_texts(store, split, store.version())
    return dict(zip(table["item_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_items_that_lost_their_label_can_be_asked_later(
    topics: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    ids = sorted(take_headlines(topics.workspace, 12))
    give_labels(topics.workspace, {item_id: TOPICS.names[k % 4] for k, item_id in enumerate(ids)})
    after = make(topics, LabelEdit("retire", ("sport",)))
    assert published_batches(after.workspace.store()) == []
    batch_id = run_here(after, ask_again)
    assert batch_id is not None
    assert [item.item_id for item in items_of(after.workspace.store(), batch_id)] == ids[2::4]


def test_the_same_command_publishes_the_batch_of_a_change_that_was_killed_before_that(
    topics: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    give_labels(topics.workspace, dict.fromkeys(take_headlines(topics.workspace, 4), "sport"))
    batch_id = relabel(topics, plan_relabeling(topics, LabelEdit("retire", ("sport",))), ask=True)
    assert batch_id is not None
    command = ["labels", "retire", "sport", "--ask-again", "--yes", "--workspace", str(topics.workspace.root)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (topics.workspace.batches / batch_id / "batch.csv").exists()
    assert [batch.batch_id for batch in published_batches(topics.workspace.store(), again=True)] == [batch_id]


IMPOSSIBLE = [
    LabelEdit("rename", ("sprot",), ("x",)),
    LabelEdit("rename", ("sport",), ("flood",)),
    LabelEdit("rename", ("sport",), ("sport",)),
    LabelEdit("rename", ("sport",), ("FLOOD",)),
    LabelEdit("rename", ("sport",), ("unsure",)),
    LabelEdit("rename", ("sport",), ("",)),
    LabelEdit("split", ("sport",), ("golf",)),
    LabelEdit("merge", ("sport", "fire", "flood", "other"), ("all",)),
    LabelEdit("add", (), ("skip",)),
]


def test_what_cannot_be_is_refused_and_nothing_changes(topics: Project) -> None:
    before = topics.workspace.config_file.read_bytes()
    for edit in IMPOSSIBLE:
        with pytest.raises(ConfigError):
            plan_relabeling(topics, edit)
    assert topics.workspace.config_file.read_bytes() == before
    assert codebook_of(topics.workspace.store()).number == 1


def test_commands_in_hints_are_as_a_shell_takes_them() -> None:
    assert shlex.split(command_of("merge", ["a 'b'", "c"], "d e"))[2:] == ["merge", "a 'b'", "c", "--into", "d e"]
    assert command_of("rename", ["-a", "b"]) == "pal labels rename -- -a b"


def test_a_renamed_project_trains_the_weights_of_one_with_the_final_names_and_older_models_still_predict(
    project: Project,
    tmp_path: Path,
    empty_workspace: Path,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> None:
    truth = take_headlines(project.workspace, 80)
    give_labels(project.workspace, truth)
    old = train_model(project)
    before = project.workspace.store().version()
    promote(project.workspace.store(), old.model_id)
    after = make(make(project, LabelEdit("rename", ("related",), ("x",))), LabelEdit("rename", ("x",), ("disaster",)))
    model = model_in_production(after)
    assert (model.labels, model.outputs and model.outputs.names) == (
        ("disaster", "not_related"),
        project.label_set.names,
    )
    texts = ["flood kills ten", "council meets"]
    assert np.allclose(model.predict(texts), old.predict(texts), atol=1e-5)
    became = codebook_of(after.workspace.store()).became_after
    loaded = load_model(after.workspace.model_folder(old.model_id), after.label_set.names, became)
    assert loaded.predict(texts).tobytes() == old.predict(texts).tobytes()
    new = train_model(after)
    assert new.model_id != old.model_id
    assert new.labels == ("disaster", "not_related")
    assert weights(after, new.model_id) == weights(project, old.model_id)
    from_start = fresh(empty_workspace, tmp_path / "start")
    take_headlines(from_start.workspace, 80)
    give_labels(from_start.workspace, {k: "disaster" if v == "related" else v for k, v in truth.items()})
    assert labelled(from_start, Split.TRAINING) == labelled(after, Split.TRAINING)
    assert weights(from_start, train_model(from_start).model_id) == weights(after, new.model_id)
    now, then = (export(after.workspace, after.label_set, tmp_path / f"{at}.csv", at) for at in (None, before))
    assert now.counts["training"].keys() == {"disaster", "not_related"}
    assert then.counts["training"].keys() == {"related", "not_related"}
    retired = make(make(after, LabelEdit("add", (), ("other",))), LabelEdit("retire", ("disaster",)))
    with pytest.raises(ModelError):
        model_in_production(retired)


def weights(project: Project, model_id: str) -> str:
    return str(
        json.loads((project.workspace.models / model_id / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"]
    )


def fresh(empty_workspace: Path, root: Path, text: str = "") -> Project:
    shutil.copytree(empty_workspace, root)
    text = text or pal_toml(60, 0, 30).replace('name = "related"', 'name = "disaster"')
    (root / "pal.toml").write_text(text, encoding="utf-8")
    return open_project(root)


def test_merged_outputs_add_up() -> None:
    outputs = Outputs(("flood", "fire", "other"), (1, 1, 0))
    assert outputs.are_merged
    assert outputs.summed(np.float32([[0.2, 0.3, 0.5]])).tolist() == [[0.5, 0.5]]
