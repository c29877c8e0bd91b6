"""What `pal init` writes reads back as it was; the page of settings and `pal config` come from the schema."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from annotation.label_set import Label, LabelSet
from flows.cli.commands import app
from storage.errors import ConfigError
from tasks.config.settings import BatchConfig, Config, MinimumsConfig, ModelConfig, SamplingConfig, TaskConfig
from tasks.config.template import (
    DISASTER,
    PRESETS,
    config_text,
    find_preset,
    label_names,
    named_labels,
    settings_of,
)
from tasks.project import Project

ROOT = Path(__file__).parents[3]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def back(text: str) -> Config:
    return Config.model_validate(tomllib.loads(text))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_back_and_has_the_defaults_where_it_says_nothing(name: str) -> None:
    preset = find_preset(name)
    said = {name: getattr(preset, name) for name in ("minimums", "model")}
    assert back(config_text(preset)) == preset == Config(task=TaskConfig.of(DISASTER), **said)


def test_every_setting_stands_there_with_a_line_above_it_that_says_what_it_is() -> None:
    lines = config_text(find_preset("demo")).splitlines()
    for section in Config.model_fields.values():
        for name, setting in section.annotation.model_fields.items():
            (at,) = (
                k
                for k, line in enumerate(lines)
                if re.match(rf"(# )?{name} = ", line)
                and k
                and "=" in line
                and lines[k - 1] == f"# {setting.description}"
            )
            assert len(lines[at - 1]) <= 122
    uncommented = "\n".join(re.sub(r"^# (\w+ = )", r"\1", line) for line in lines)
    assert back(uncommented) == find_preset("demo")


@given(
    TEXTS, st.lists(TEXTS, max_size=3), st.floats(min_value=1e-9, max_value=1e9), st.sampled_from(["entropy", "random"])
)
def test_any_settings_read_back(text: str, keywords: list[str], rate: float, strategy: str) -> None:
    config = Config(
        task=TaskConfig(name=text, question=text, definition=text, labels=TaskConfig.of(DISASTER).labels),
        minimums=MinimumsConfig(evaluation=7, evaluation_share=0.5, validation=8, training=9),
        batch=BatchConfig(annotators=("anna", "Zoë Q"), overlap=2, gold=0.05),
        sampling=SamplingConfig(
            mix={strategy: "100%"},
            keywords=tuple(word for word in keywords if word.strip()),
            options={"anchor": {"size": 5, "score": "entropy"}},
        ),
        model=ModelConfig(learning_rate=rate),
    )
    assert back(config_text(config)) == config


@pytest.mark.parametrize("name", ['say "no"', "back\\slash", "Überschwemmung 洪水 \U0001f30a"])
def test_any_label_reads_back(name: str) -> None:
    label_set = LabelSet("t", "?", "d", (Label(name, "1"), Label("b", "2", default=True)))
    assert back(config_text(Config(task=TaskConfig.of(label_set)))).task.label_set == label_set


def test_other_labels_keep_a_presets_numbers_and_get_their_own_default_mix() -> None:
    config = find_preset("chapter-2", named_labels(["a", "b", "c"], None, None))
    assert config.minimums == PRESETS["chapter-2"].minimums
    assert "margin_confidence" in config.sampling.mix
    assert back(config_text(config)) == config
    (mix,) = (each for each in settings_of(config) if each.name == "mix")
    assert mix.is_default


def test_an_unknown_preset_is_an_error_that_names_all() -> None:
    with pytest.raises(ConfigError) as raised:
        find_preset("chapter2")
    assert all(name in raised.value.hint for name in PRESETS)


def test_the_presets_carry_the_originals_numbers() -> None:
    assert PRESETS["chapter-2"].minimums == MinimumsConfig(
        evaluation=1200, evaluation_share=0, validation=0, training=400
    )
    assert DISASTER.answer("1") == DISASTER.positive == "related"
    assert DISASTER.default == "not_related"
    assert "memorials" in DISASTER.definition


@pytest.mark.parametrize(
    ("names", "positive"), [(["spam"], None), (["spam", "spam"], None), (["spam", "ham"], "eggs"), (["spam", ""], None)]
)
def test_labels_that_cannot_be_are_refused(names: list[str], positive: str | None) -> None:
    with pytest.raises(ConfigError):
        named_labels(names, positive, None)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["0", "1"], ["0", "1"]),
        (["spam", "1", "2"], ["3", "1", "2"]),
        (["s", "A", "d"], ["1", "A", "2"]),
        ([f"label{k}" for k in range(13)], [*"123456789abce"]),
        ([f"label{k}" for k in range(77)], [*"123456789abcefghijklmopqrtvwxyz", *[""] * 46]),
    ],
)
def test_a_label_of_one_character_is_its_own_key_and_the_first_others_get_free_ones(
    tmp_path: Path, names: list[str], keys: list[str]
) -> None:
    ran = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--labels", ",".join(names), "--positive", names[0]])
    assert ran.exit_code == 0, ran.output
    text = (tmp_path / "w" / "pal.toml").read_text(encoding="utf-8")
    label_set = back(text).task.label_set
    assert label_set == replace(named_labels(names, names[0], None), name="w"), "named after the directory"
    assert [label.key for label in label_set.labels] == keys
    assert [label_set.answer(name) for name in names] == names
    assert text.count("key = ") == sum(map(bool, keys))


def test_the_settings_in_force_are_printed_with_defaults_marked(project: Project) -> None:
    at = ["--workspace", str(project.workspace.root)]
    found = json.loads(CliRunner().invoke(app, ["config", "--json", *at]).stdout)
    assert found["minimums"]["evaluation"] == {"value": 60, "default": False}
    assert found["model"]["epochs"] == {"value": 60, "default": True}
    assert {name: set(settings) for name, settings in found.items()} == {
        name: set(section) for name, section in project.config.model_dump().items()
    }
    text = CliRunner().invoke(app, ["config", *at]).stdout
    assert back(text) == project.config
    assert "\nevaluation = 60\n" in text
    assert re.search(r"^epochs = 60 .*default$", text, re.MULTILINE)


def test_labels_are_typed_with_commas_and_none_are_not_a_preset(tmp_path: Path) -> None:
    assert label_names('spam, "ham, or eggs"') == ["spam", "ham, or eggs"]
    ran = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--labels", ""])
    assert isinstance(ran.exception, ConfigError)
    assert not (tmp_path / "w" / "pal.toml").exists()
