"""Text about settings: the pal.toml of `pal init`, the page docs/pal-toml.md, the effective settings.

Also changes the labels in a pal.toml: comments, order and all other lines stay.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tomlkit
from tomlkit.items import AoT

from annotation.label_set import Label, LabelSet, with_keys
from storage.errors import ConfigError
from tasks.config.load import checked
from tasks.config.settings import Config, MinimumsConfig, ModelConfig, TaskConfig
from tasks.config.values import as_toml, find_node, in_words

DISASTER = LabelSet(
    name="disaster-headlines",
    question="Is this headline disaster-related?",
    definition="""A 'disaster-related' headline is any story about a disaster.
It includes: human, animal and plant disasters; the response to disasters (aid); natural disasters
and man-made ones like wars.
It does not include: criminal acts and non-disaster-related police work; post-response activity like memorials.""",
    labels=(Label("related", "1", positive=True), Label("not_related", "0", default=True)),
)

PRESETS = {
    "disaster-headlines": Config(task=TaskConfig.of(DISASTER)),
    "chapter-2": Config(
        task=TaskConfig.of(DISASTER),
        minimums=MinimumsConfig(evaluation=1200, evaluation_share=0, training=400),
        model=ModelConfig(sentence="off"),
    ),
    "demo": Config(task=TaskConfig.of(DISASTER), model=ModelConfig(sentence="off")),
}


def find_preset(name: str, label_set: LabelSet | None = None) -> Config:
    """The preset of that name, for its own labels or others.

    Raises:
        ConfigError: There is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}.", hint=f"Choose from: {', '.join(PRESETS)}")
    return Config(**{**dict(PRESETS[name]), "task": TaskConfig.of(label_set)}) if label_set else PRESETS[name]


def label_names(text: str) -> list[str]:
    """Labels as they are typed, with commas between them; those with a comma of their own in double quotes.

    >>> label_names('spam, "ham, or eggs"')
    ['spam', 'ham, or eggs']
    """
    one_line = " ".join(text.split())
    return [name.strip() for row in csv.reader([one_line], skipinitialspace=True) for name in row]


def named_labels(
    names: Sequence[str], positive: str | None, question: str | None, definition: str | None = None
) -> LabelSet:
    """A label set for labels named on the command line.

    Raises:
        ConfigError: They cannot be a label set.
    """
    label_set = LabelSet(
        name="my-task",
        question=question or (f"Which label fits: {', '.join(names)}?" if len(names) < 10 else "Which label fits?"),
        definition=definition or "",
        labels=with_keys([Label(name, positive=name == positive) for name in names]),
    )
    faults = label_set.faults()
    if positive is not None and positive not in names:
        faults.append(f"positive label {positive!r} is not one of {', '.join(names)}")
    if faults:
        raise ConfigError(f"These labels cannot be used: {'; '.join(faults)}.", hint="pal init DIR --labels spam,ham")
    return label_set


class Setting(NamedTuple):
    """A setting of a section, with what the schema says about it."""

    section: str
    name: str
    value: Any
    default: Any
    node: Mapping[str, Any]

    @property
    def is_default(self) -> bool:
        """Whether it has the value that it has where pal.toml leaves it out."""
        return bool(self.value == self.default)


def settings_of(config: Config) -> Iterator[Setting]:
    """Every setting, in the order of the schema; defaults are those for its labels."""
    schema = config.model_json_schema()
    values = config.model_dump(exclude_defaults=False)
    defaults = {**dict(Config(task=config.task)), "task": None}
    for section, settings in values.items():
        for name, value in settings.items():
            node, _ = find_node(schema, (section, name))
            yield Setting(section, name, value, getattr(defaults[section], name, None), node)


def config_text(config: Config) -> str:
    """A pal.toml, with a line above each setting that says what it is. Rare settings at their default are comments."""
    lines = [
        "# Settings of this workspace. Only [task] is required; unknown settings are errors. See docs/pal-toml.md."
    ]
    for section, settings in groupby(settings_of(config), lambda setting: setting.section):
        lines += ["", f"# {Config.model_fields[section].description}", f"[{section}]"]
        for setting in settings:
            mark = "# " if setting.node.get("rare") and setting.is_default else ""
            lines += [f"# {setting.node['description']}", f"{mark}{setting.name} = {_written(setting)}"]
    return "\n".join(lines) + "\n"


def _written(setting: Setting) -> str:
    """The value over several lines, where it is easier to read and change so."""
    value = setting.value
    if (setting.section, setting.name) == ("task", "labels"):
        kept = ({name: part for name, part in label.items() if part not in ("", False)} for label in value)
        return "[\n" + "".join(f"  {as_toml(label)},\n" for label in kept) + "]"
    if isinstance(value, str) and "\n" in value and value.replace("\n", "").isprintable() and not {*value} & {*'"\\'}:
        return f'"""\n{value}"""'
    return as_toml(value)


def settings_in_force(config: Config) -> str:
    """Every setting as a line of TOML, defaults marked."""
    lines: list[str] = []
    for section, settings in groupby(settings_of(config), lambda setting: setting.section):
        lines += ["", f"[{section}]"]
        for setting in settings:
            lines.append(f"{setting.name} = {as_toml(setting.value)}{'  # default' if setting.is_default else ''}")
    return "\n".join(lines[1:])


def settings_page() -> str:
    """The page docs/pal-toml.md."""
    lines = [_HEADER]
    for section, settings in groupby(settings_of(find_preset("disaster-headlines")), lambda setting: setting.section):
        lines += ["", f"## [{section}]", "", Config.model_fields[section].description or "", ""]
        lines += ["| setting | value | default | meaning |", "|---|---|---|---|"]
        for setting in settings:
            default = "required" if section == "task" else f"`{as_toml(setting.default)}`"
            lines.append(f"| `{setting.name}` | {in_words(setting.node)} | {default} | {setting.node['description']} |")
    return "\n".join(lines)


_HEADER = """# Settings: pal.toml

Written by `pal config --markdown`. `pal init` writes a pal.toml with all of these; `pal config` prints those in force.
Only `[task]` is required, and unknown settings are errors. All errors are shown at once.

Each label of `[task]` has a `name`, and may have a `key` (one character; without it pal chooses one for the first 31
labels), `positive = true` (the rare label that the metrics are about) and `default = true` (chosen by Enter). A label
without a key is answered by its name."""


Kind = Literal["rename", "merge", "retire", "add", "split"]
Entry = MutableMapping[str, Any]
MARKS = ("positive", "default")


@dataclass(frozen=True)
class LabelEdit:
    """A change of labels as it is typed.

    Attributes:
        labels: Those that go; none where one is only added.
        into: Those in their place, or the added one.
    """

    kind: Kind
    labels: tuple[str, ...] = ()
    into: tuple[str, ...] = ()


def edited(content: bytes, edit: LabelEdit, path: Path) -> bytes:
    """A pal.toml with a change of its labels; made already, nothing changes.

    Raises:
        ConfigError: These cannot be the labels of a task, or the change cannot be written there.
    """
    text = content.decode("utf-8-sig")
    document, wanted = tomlkit.parse(text), tomllib.loads(text)
    _apply(document["task"]["labels"], edit)  # type: ignore[index, arg-type]
    _apply(wanted["task"]["labels"], edit)
    checked(Config, wanted, f"{path}, changed like this,", "Choose other labels; nothing was changed.")
    after = tomlkit.dumps(document)
    if tomllib.loads(after) != wanted:
        raise ConfigError(
            f"The labels in {path} cannot be changed by pal.", hint="Change them there, then run the command again."
        )
    return content[: len(content) - len(text.encode())] + after.encode()  # with the byte order mark, if it has one


def _apply(entries: list[Entry], edit: LabelEdit) -> None:
    """Change the labels of `[task]`; what is gone or there already is left as it is."""
    names = [entry["name"] for entry in entries]
    going = [name for name in names if name in edit.labels and name not in edit.into]
    new = [name for name in edit.into if name not in names]
    marks = {mark for name in going for mark in MARKS if entries[names.index(name)].get(mark)}
    place = names.index(going[0]) if going else len(names)
    if going and new:  # the first in place of the first: with its key, marks and comments
        entries[place]["name"] = new.pop(0)
        going.pop(0)
        place += 1
    elif new and edit.labels and edit.labels[0] in names:
        place = names.index(edit.labels[0]) + 1
    for name in reversed(new):
        entries.insert(place, _entry(entries, name))
    for name in going:
        del entries[[entry["name"] for entry in entries].index(name)]
    heir = next((entry for entry in entries if edit.into and entry["name"] == edit.into[0]), None)
    for mark in sorted(marks):
        if heir is not None and not any(entry.get(mark) for entry in entries):
            heir[mark] = True


def _entry(entries: Sequence[Entry], name: str) -> Entry:
    entry: Entry = tomlkit.table() if isinstance(entries, AoT) else tomlkit.inline_table()
    entry["name"] = name
    return entry
