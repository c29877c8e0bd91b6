"""pal.toml is read strictly: defaults that work, every fault at once, each with its place and the way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from annotation.batch_config import BatchConfig
from flows.cli.presets import DISASTER, PRESETS, config_text, named_labels
from flows.config import open_project, read_config
from storage.errors import ConfigError, WorkspaceError
from tasks.learning.training_config import TrainingConfig
from tasks.plan import Minimums
from tasks.project import Config

TASK = """
[task]
name = "t"
question = "?"
definition = "d"
labels = [{ name = "a", key = "1" }, { name = "b", key = "2" }]
"""


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "pal.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


@pytest.mark.parametrize("name", PRESETS)
def test_what_init_writes_reads_back_as_the_preset(tmp_path: Path, name: str) -> None:
    preset = PRESETS[name]
    config = read(tmp_path, config_text(preset.label_set, preset.minimums))
    assert config.task == preset.label_set
    assert config.minimums == preset.minimums
    assert config == Config(task=preset.label_set, minimums=preset.minimums), "written values are the defaults"


def test_every_table_but_task_may_be_missing(tmp_path: Path) -> None:
    config = read(tmp_path, TASK)
    assert config.minimums == Minimums(1200, 0, 50, 0.25)
    assert config.sampling.mix == {"random": 10, "least_confidence": 80, "outlier": 10}
    assert config.model.training == TrainingConfig()


def test_several_annotators_are_read_as_they_stand(tmp_path: Path) -> None:
    text = f'{TASK}\n[batch]\nformats = ["html", "doccano"]\nannotators = ["anna", "Zoë Q"]\noverlap = 2\ngold = 1\n'
    assert read(tmp_path, text).batch == BatchConfig(100, ("html", "doccano"), ("anna", "Zoë Q"), 2, 1.0)
    assert read(tmp_path, TASK).batch == BatchConfig(100, ("csv", "xlsx", "html"), (), 1, 0.0)


def faults_in(said: str) -> list[str]:
    """The faults that an error tells, one each line."""
    return [line for line in said.splitlines() if line.startswith("  ")]


def assert_a_fault(said: str, *values: str) -> None:
    assert any(all(value in fault for value in values) for fault in faults_in(said)), values


def test_every_fault_is_told_at_once_with_its_place_and_the_nearest_known_name(tmp_path: Path) -> None:
    text = TASK + '\n[model]\nepohcs = 3\nbalance = "wieghts"\n\n[batch]\nsize = "many"\n\n[smapling]\nx = 1\n'
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    said = str(raised.value)
    assert len(faults_in(said)) == 4
    assert_a_fault(said, "[model] epohcs", "'epochs'")
    assert_a_fault(said, "[model] balance = 'wieghts'", "'weights'", "'equal_draws'", "'none'")
    assert_a_fault(said, "[batch] size = 'many'")
    assert_a_fault(said, "smapling", "'sampling'")


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("[sampling]\nmix = { least_confidense = 10 }", ["[sampling]", "'least_confidense'", "'least_confidence'"]),
        ("[sampling]\nmix = { random = -1 }", ["[sampling]", "random = -1", "0"]),
        ("[sampling]\nmix = { random = 0 }", ["[sampling]", "mix", "0"]),
        ("[sampling]\nmix = { random = 1.5 }", ["[sampling] mix.random = 1.5"]),
        ('[sampling]\nmix = "all"', ["[sampling] mix = 'all'"]),
        ('[sampling]\nkeywords = "flood"', ["[sampling] keywords = 'flood'", '["a", "b"]']),
        ("[sampling.options.anchor]\nsize = [1]", ["[sampling] options.anchor.size = [1]"]),
        ("[sampling.options.anchor]\nsiz = 1", ["[sampling] options.anchor", "'siz'", "anchors"]),
        ('[sampling]\nmix = { random = "90%" }', ["[sampling] mix", "90%", "100%"]),
        ('[model]\nencoder = "minilm"', ["[model] encoder = 'minilm'", "'minilm-static'"]),
        ("[batch]\nsize = 0", ["[batch] size = 0", "1"]),
        ('[batch]\nformats = ["csv", "pdf"]', ["[batch] formats = 'pdf'", "csv, xlsx"]),
        ('[batch]\nformats = "csv"', ["[batch] formats = 'csv'", '["a", "b"]']),
        ("[batch]\noverlap = 2", ["[batch] overlap = 2", "1", "0"]),
        ("[batch]\nannotators = [7]", ["[batch] annotators.0 = 7"]),
        ('[batch]\nannotators = ["unnamed"]', ["[batch] annotators", "'unnamed'"]),
        ("[batch]\ngold = 0.5", ["[batch] gold = 0.5", "annotators"]),
        ('[batch]\ngold = "5%"', ["[batch] gold = '5%'"]),
        ("[batch]\nannotator = []", ["[batch] annotator", "'annotators'"]),
        ("[minimums]\ntraining = 1", ["[minimums] training = 1", "2"]),
        ("[minimums]\nevaluation_share = 1.0", ["[minimums] evaluation_share = 1.0", "1"]),
        ("[model]\nlearning_rate = 0.0", ["[model] learning_rate = 0.0"]),
        ("[promotion]\nconfidence = 1.5", ["[promotion] confidence = 1.5", "0", "1"]),
        ("[model]\nseed = true", ["[model] seed = True"]),
        ('[scale]\nrunner = "dask"', ["[scale] address", '"dask"']),
        ('[scale]\naddress = "tcp://a:1"', ["[scale] address", '"dask"', '"threads"']),
        ('[scale]\nrunner = "spark"', ["[scale] runner = 'spark'"]),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, table: str, values: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, f"{TASK}\n{table}\n")
    (fault,) = faults_in(str(raised.value))
    assert all(value in fault for value in values)


def test_a_missing_task_and_faulty_labels_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\n +task\b"):
        read(tmp_path, "[batch]\nsize = 10\n")
    with pytest.raises(ConfigError, match=r"\n +\[task\].*\b2\b"):
        read(tmp_path, TASK.replace(', { name = "b", key = "2" }', ""))
    with pytest.raises(ConfigError, match=r"labels\.1\.key"):
        read(tmp_path, TASK.replace(', key = "2"', ""))


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pal\.toml.*line 1"):
        read(tmp_path, "[task\n")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "pal.toml"
    path.write_text(TASK, encoding="utf-8-sig")
    assert read_config(path).task.names == ("a", "b")


def test_the_workspace_is_found_upward_by_argument_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PAL_WORKSPACE", raising=False)
    root = (tmp_path / "w").resolve()
    (root / "deep" / "er").mkdir(parents=True)
    (root / "pal.toml").write_text(TASK, encoding="utf-8")
    monkeypatch.chdir(root / "deep" / "er")
    assert open_project().workspace.root == root
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceError, match="pal init DIR"):
        open_project()
    assert open_project(root).workspace.root == root
    monkeypatch.setenv("PAL_WORKSPACE", str(root))
    assert open_project().workspace.root == root
    with pytest.raises(WorkspaceError, match=re.escape(str(tmp_path))):
        open_project(tmp_path)


def test_labels_from_the_command_line_make_a_label_set_that_reads_back(tmp_path: Path) -> None:
    label_set = named_labels(["spam", "ham", "eggs"], "spam", 'Is it "spam"?')
    config = read(tmp_path, config_text(label_set, Minimums()))
    assert config.task == label_set
    assert config.task.positive == "spam"


@pytest.mark.parametrize(
    ("names", "positive"), [(["spam"], None), (["spam", "spam"], None), (["spam", "ham"], "eggs"), (["spam", ""], None)]
)
def test_labels_that_cannot_be_are_refused(names: list[str], positive: str | None) -> None:
    with pytest.raises(ConfigError):
        named_labels(names, positive, None)


def test_the_presets_carry_the_originals_numbers() -> None:
    assert PRESETS["chapter-2"].minimums == Minimums(1200, 0, 400, evaluation_share=0)
    assert PRESETS["disaster-headlines"].minimums == Minimums()
    assert DISASTER.answer("1") == DISASTER.positive == "related"
    assert DISASTER.default == "not_related"
    assert "memorials" in DISASTER.definition
