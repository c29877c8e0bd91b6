"""pal.toml is read strictly: defaults that work, every error at once with its section, key and value."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.errors import BatchError, ConfigError, WorkspaceError
from storage.workspace import Workspace
from tasks.config.load import checked, read_config
from tasks.config.settings import BatchConfig, Config, LakeConfig, MinimumsConfig, SamplingConfig, ScheduleConfig
from tasks.config.values import STRATEGY_OPTIONS
from tasks.learning.training import TrainingConfig
from tasks.project import Project, open_project
from tasks.sampling.mixer import REGISTRY

ROOT = Path(__file__).parents[3]
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


def errors(tmp_path: Path, text: str) -> list[str]:
    """The lines of the error that reading it raises, without the first."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    return [line.strip() for line in raised.value.what.splitlines()[1:]]


def test_every_section_but_task_may_be_missing(tmp_path: Path) -> None:
    config = read(tmp_path, TASK)
    assert config.minimums == MinimumsConfig(evaluation=1200, evaluation_share=0.25, validation=0, training=100)
    assert config.sampling.active == {"random": 10.0, "least_confidence": 80.0, "outlier": 10.0}
    assert config.model.training == TrainingConfig(), "the library and pal.toml have the same defaults"


def test_the_default_mix_has_margin_above_two_labels_unless_pal_toml_has_a_mix(tmp_path: Path) -> None:
    three = TASK.replace("labels = [", 'labels = [{ name = "third" }, ')
    assert read(tmp_path, three).sampling.active == {"random": 10.0, "margin_confidence": 80.0, "outlier": 10.0}
    keywords = read(tmp_path, f'{three}\n[sampling]\nkeywords = ["flood"]\n').sampling
    assert ("margin_confidence" in keywords.mix, keywords.keywords) == (True, ("flood",))
    written = read(tmp_path, f"{three}\n[sampling]\nmix = {{ least_confidence = 1 }}\n")
    assert written.sampling.active == {"least_confidence": 1.0}


def test_a_workspace_of_version_0_1_0_keeps_its_settings(tmp_path: Path) -> None:
    with tarfile.open(ROOT / "tests" / "storage" / "workspace-0.1.0.tar.gz") as archive:
        archive.extract("workspace/pal.toml", tmp_path, filter="data")
    path = tmp_path / "workspace" / "pal.toml"
    written, config = tomllib.loads(path.read_text(encoding="utf-8")), read_config(path).model_dump(mode="json")
    for section in written.keys() - {"task"}:
        assert {name: config[section][name] for name in written[section]} == written[section]
    assert read_config(path).task.label_set.names == ("related", "not_related")
    assert [label["key"] for label in config["task"]["labels"]] == ["1", "0"]


def test_several_annotators_are_read_as_they_stand(tmp_path: Path) -> None:
    text = f'{TASK}\n[batch]\nformats = ["html", "doccano"]\nannotators = ["anna", "Zoë Q"]\noverlap = 2\ngold = 1\n'
    batch = read(tmp_path, text).batch
    assert (batch.formats, batch.annotators, batch.gold) == (("html", "doccano"), ("anna", "Zoë Q"), 1.0)


def test_annotators_are_shown_descriptions_and_words_to_highlight(tmp_path: Path) -> None:
    task = TASK.replace('name = "a"', 'name = "a", description = "A."')
    label_set = Project(
        Workspace(tmp_path), read(tmp_path, f'{task}\n[batch]\nhighlight = ["flood", "fire brigade"]\n')
    ).label_set
    assert [label.description for label in label_set.labels] == ["A.", ""]
    assert label_set.highlight == ("flood", "fire brigade")


def test_all_errors_come_at_once_with_their_place_and_the_nearest_name(tmp_path: Path) -> None:
    text = TASK + '\n[model]\nepohcs = 3\nbalance = "wieghts"\n\n[batch]\nsize = "many"\n\n[smapling]\nx = 1\n'
    text += "[promotion]\nconfidence = 2"
    found = errors(tmp_path, text)
    assert [line.split(":")[0] for line in found] == [
        '[batch] size = "many"',
        '[model] balance = "wieghts"',
        "[model] epohcs",
        "[promotion] confidence = 2",
        "[smapling]",
    ]
    assert "a whole number, at least 1" in found[0]
    assert '"weights", "equal_draws" or "none"' in found[1]
    assert '"epochs"' in found[2]
    assert "from 0 to 1" in found[3]
    assert '"sampling"' in found[4]


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("[sampling]\nmix = { least_confidense = 10 }", "[sampling] mix", '"least_confidence"'),
        ("[sampling]\nmix = { xyzzy = 10 }", "[sampling] mix", '"xyzzy"'),
        ("[sampling]\nmix = { random = -1 }", "[sampling] mix: random = -1", "at least 0"),
        ("[sampling]\nmix = { random = 0 }", "[sampling] mix", "above 0"),
        ("[sampling]\nmix = {}", "[sampling] mix", "above 0"),
        ("[sampling]\nmix = { random = 1.5 }", "[sampling] mix, random = 1.5", "a whole number or a text"),
        ('[sampling]\nmix = "all"', '[sampling] mix = "all"', "a table, such as { "),
        ('[sampling]\nmix = { random = "all" }', '[sampling] mix: random = "all"', '"80%"'),
        ('[sampling]\nmix = { random = "10%", entropy = 90 }', "[sampling] mix", "percentages"),
        ('[sampling]\nmix = { random = "90%" }', "[sampling] mix", "90%"),
        ('[sampling]\nstart = { random = "90%" }', "[sampling] start", "90%"),
        ('[sampling]\nkeywords = "flood"', '[sampling] keywords = "flood"', "a list, such as ["),
        ('[sampling]\nkeywords = [" "]', '[sampling] keywords: " "', ""),
        ("[sampling.options.anchor]\nsize = [1]", "[sampling] options, anchor, size = [1]", "a whole number"),
        ("[sampling.options.anchor]\nsiz = 1", "[sampling] options: anchor", '"size"'),
        ("[sampling.options.random]\nsize = 1", "[sampling] options: random", '"size"'),
        ("[sampling.options.outlyer]", "[sampling] options", '"outlier"'),
        ('[sampling.options.anchor]\nsize = "many"', '[sampling] options: anchor.size = "many"', "1000"),
        ("[sampling.options.anchor]\nsize = true", "[sampling] options: anchor.size = true", "1000"),
        ("[sampling.options.anchor]\nsize = -1", "[sampling] options: anchor.size = -1", "at least 0"),
        ("[sampling.options.bald]\nbeta = nan", "[sampling] options: bald.beta = nan", "at least 0"),
        (
            "[sampling.options.clustered_uncertainty]\nshare = 10",
            "[sampling] options: clustered_uncertainty.share",
            "1",
        ),
        ('[sampling.options.anchor]\nscore = "anchor"', "[sampling] options: anchor.score", "another"),
        ('[sampling.options.anchor]\nscore = "entropi"', "[sampling] options: anchor.score", '"entropy"'),
        ('[model]\nencoder = "minilm"', '[model] encoder = "minilm"', '"minilm-static"'),
        ("[model]\nlearning_rate = 0.0", "[model] learning_rate = 0.0", "above 0"),
        ("[model]\nseed = true", "[model] seed = true", "a whole number"),
        ("[batch]\nsize = 0", "[batch] size = 0", "at least 1"),
        ('[batch]\nformats = ["csv", "xslx"]', "[batch] formats", '"xlsx"'),
        ("[batch]\nformats = []", "[batch] formats", "csv, xlsx, html"),
        ('[batch]\nformats = "csv"', '[batch] formats = "csv"', "a list"),
        ("[batch]\nannotators = [7]", "[batch] annotators, entry 1 = 7", "a text in quotes"),
        ('[batch]\nannotators = ["anna", ""]', '[batch] annotators: ""', ""),
        ('[batch]\nannotators = ["a\\tb"]', '[batch] annotators: "a\\tb"', ""),
        ('[batch]\nannotators = ["anna", "original"]', '[batch] annotators: "original"', ""),
        ('[batch]\nannotators = ["straße", "STRASSE"]', "[batch] annotators", "twice"),
        ("[batch]\noverlap = 2", "[batch]: overlap = 2", "0"),
        ("[batch]\noverlap = 0", "[batch] overlap = 0", "at least 1"),
        ("[batch]\ngold = 0.5", "[batch]: gold = 0.5", "annotators"),
        ('[batch]\nhighlight = ["flood", " "]', "[batch] highlight", "empty"),
        ('[batch]\ngold = "5%"', '[batch] gold = "5%"', "a number from 0 to 1"),
        ("[batch]\ngold = nan", "[batch] gold = nan", "from 0 to 1"),
        ("[batch]\nannotator = []", "[batch] annotator", '"annotators"'),
        ("batch = 3", "[batch] = 3", "a table"),
        ("[minimums]\ntraining = 1", "[minimums] training = 1", "at least 2"),
        ("[minimums]\nevaluation_share = 1.0", "[minimums] evaluation_share = 1.0", "from 0 to 0.9"),
        ("[minimums]\ntraining = 2026-01-01", "[minimums] training = 2026-01-01", "a whole number"),
        ('[scale]\nrunner = "dask"', "[scale]: address", "tcp://"),
        ('[scale]\naddress = "tcp://a:1"', '[scale]: address = "tcp://a:1"', '"dask"'),
        ('[scale]\nrunner = "spark"', '[scale] runner = "spark"', '"threads" or "dask"'),
        ('[schedule]\nnightly = "0 25 * * *"', '[schedule] nightly = "0 25 * * *"', '"0 2 * * *"'),
        ('[schedule]\ntimezone = "Europe/Berln"', '[schedule] timezone = "Europe/Berln"', '"Europe/Berlin"'),
        ('[schedule]\ntimezone = "#"', '[schedule] timezone = "#"', '"Europe/Berlin"'),
        ("[server]\nport = 0", "[server] port = 0", "from 1 to 65535"),
        ('[notify]\non = ["night"]', '[notify] on, entry 1 = "night"', '"batch", "promotion", "failure" or "drift"'),
        ('[notify]\nwebhook = "example.org/hook"', "[notify] webhook", "https://"),
        ('[files]\nroot = "bucket/folder"', "[files] root", "s3://bucket/folder"),
        (f"[batch]\nsize = {'[' * 50}{']' * 50}", "[batch] size = [[[...]]]", "a whole number"),
        (f"[sampling.options.{'a.' * 999}a]", "[sampling] options, a, a = { a = { a = { a = ... } } }", ""),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_place(tmp_path: Path, text: str, place: str, advice: str) -> None:
    at_top = f"{text}\n{TASK}" if text.startswith("batch") else f"{TASK}\n{text}\n"
    (line,) = errors(tmp_path, at_top)
    assert line.startswith(place)
    assert advice in line


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "[task] is missing"),
        (TASK.replace('question = "?"', ""), "[task] question is missing"),
        (TASK.replace(', { name = "b", key = "2" }', ""), "[task]"),
        (TASK.replace('name = "b", ', ""), "[task] labels, entry 2, name is missing"),
        (TASK.replace('key = "2"', 'kye = "2"'), "[task] labels, entry 2, kye"),
        (TASK.replace('key = "2"', 'key = "s"'), "[task]"),
        (TASK.replace('key = "2"', 'key = "1"'), "[task]"),
    ],
)
def test_errors_of_the_task_are_told_with_their_place(tmp_path: Path, text: str, place: str) -> None:
    (line,) = errors(tmp_path, text)
    assert line.startswith(place)


@pytest.mark.parametrize(
    "setting",
    [
        'catalog = "postgres:host=db password=hunter2"',
        "catalog = \"postgres:host=db PASSWORD = 'hunter2'\"",
        'catalog = "mysql:hunter2"',
        'data = "gs://b/hunter2"',
        'catalog = "postgres:postgresql://anna:hunter2@db/pal"',
        'catalog = ["hunter2"]',
        'data = "s3://key:hunter2@bucket/pal"',
    ],
)
def test_an_error_never_repeats_a_secret(tmp_path: Path, setting: str) -> None:
    (line,) = errors(tmp_path, f"{TASK}\n[lake]\n{setting}\n")
    assert line.startswith(f"[lake] {setting.split()[0]}")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"[task\n", "line 1"),
        (b"a = " + b"[" * 1000 + b"]" * 1000, "nested"),
        (b'[task]\nname = "\xff"\n', "line 2"),
        (TASK.encode("utf-16"), "line 1"),
    ],
)
def test_what_is_no_toml_is_an_error_with_its_line(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "pal.toml").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_config(tmp_path / "pal.toml")
    assert named in raised.value.what


def test_a_directory_in_place_of_pal_toml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pal.toml").mkdir()
    with pytest.raises(ConfigError):
        open_project(tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "pal.toml"
    path.write_text(TASK, encoding="utf-8-sig")
    assert read_config(path).task.label_set.names == ("a", "b")


def test_the_values_of_a_command_are_checked_as_those_of_a_section() -> None:
    assert checked(LakeConfig, {"data": "elsewhere"}, "The command", "").data == "elsewhere"
    with pytest.raises(ConfigError) as raised:
        checked(LakeConfig, {"catalog": "mysql:x", "data": "ftp://x"}, "The command", "")
    assert [line.split(":")[0].strip() for line in raised.value.what.splitlines()[1:]] == ["catalog", "data"]


def test_labels_without_a_key_get_the_free_ones(tmp_path: Path) -> None:
    text = TASK.replace('{ name = "a", key = "1" }, { name = "b", key = "2" }', '{ name = "x" }, { name = "yes" }')
    assert [label.key for label in read(tmp_path, text).task.label_set.labels] == ["x", "1"]


def test_the_strategies_and_options_that_pal_toml_may_name_are_those_of_the_registry() -> None:
    assert {name: dict(strategy.options) for name, strategy in REGISTRY.items()} == STRATEGY_OPTIONS


def test_a_mix_is_checked_without_numpy(tmp_path: Path) -> None:
    text = f'{TASK}\n[sampling]\nmix = {{ entropy = 1 }}\n[sampling.options.anchor]\nsize = 500\nscore = "entropy"\n'
    (tmp_path / "pal.toml").write_text(text, encoding="utf-8")
    code = (
        "import sys, pathlib\nfrom tasks.config.load import read_config\nread_config(pathlib.Path(sys.argv[1]))\n"
        "print(sorted({'numpy', 'torch', 'pyarrow', 'scipy', 'prefect'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pal.toml")], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_before_there_is_a_model_items_are_random_or_half_of_them_by_keyword_or_as_it_says() -> None:
    assert SamplingConfig().cold == {"random": 100}
    assert SamplingConfig(keywords=("flood",)).cold == {"random": 50, "keyword": 50}
    assert SamplingConfig(keywords=("flood",), start={"core_set": 1}).cold == {"core_set": 1.0}
    assert SamplingConfig(mix={"random": "12.5%", "entropy": " 87.5 %"}).active == {"random": 12.5, "entropy": 87.5}


def test_formats_of_the_command_line_take_the_place_of_its_own() -> None:
    batch = BatchConfig(size=7, formats=("html",))
    assert batch.with_formats(["csv", "doccano"]) == BatchConfig(size=7, formats=("csv", "doccano"))
    with pytest.raises(BatchError):
        batch.with_formats(["csv", "label-stdio"])


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/30 0-4 * * mon-fri", "15 3 1 * *"])
def test_a_cron_expression_in_a_zone_can_be_used(cron: str) -> None:
    assert ScheduleConfig(nightly=cron, timezone="Asia/Kolkata").nightly == cron


@pytest.mark.parametrize("cron", ["", "2 o'clock", "61 2 * * *", "0 2 * *"])
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(ValidationError):
        ScheduleConfig(nightly=cron)


def test_the_next_night_is_in_the_zone_also_where_the_clock_changes() -> None:
    schedule = ScheduleConfig(nightly="0 4 * * *", timezone="Europe/Berlin")
    before = schedule.next_night(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert before.isoformat() == "2026-03-29T04:00:00+02:00"


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
    with pytest.raises(WorkspaceError):
        open_project()
    assert open_project(root).workspace.root == root
    monkeypatch.setenv("PAL_WORKSPACE", str(root))
    assert open_project().workspace.root == root
    with pytest.raises(WorkspaceError):
        open_project(tmp_path)


@pytest.mark.parametrize("value", [f"{10**30}", f"-{10**30}", "1e300", "inf", "nan"])
def test_no_number_is_larger_than_what_can_be_stored(tmp_path: Path, value: str) -> None:
    sections = {
        section: [
            name
            for name, setting in getattr(field.annotation, "model_fields", {}).items()
            if setting.annotation in (int, float)
        ]
        for section, field in Config.model_fields.items()
    }
    lines = [
        line for section, names in sections.items() for line in (f"[{section}]", *(f"{n} = {value}" for n in names))
    ]
    n_numbers = sum(map(len, sections.values()))
    assert n_numbers > 15
    assert len(errors(tmp_path, "\n".join([TASK, *lines[1:]]))) == n_numbers
