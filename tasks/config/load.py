"""Reads pal.toml strictly: all errors at once, each with its section, key and value, and what to write there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from storage.errors import ConfigError
from tasks.config.settings import Config
from tasks.config.values import as_toml, find_node, in_words, suggest

Model = TypeVar("Model", bound=BaseModel)

SHOWN = 80
"""Characters of a wrong value that an error repeats."""
FRESH = "Compare it with a new one: pal init DIR"


def read_config(path: Path) -> Config:
    """Read a pal.toml.

    Raises:
        ConfigError: With every error in it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} is not UTF-8 (line {line}).", hint="Save it as UTF-8.") from error
    except OSError as error:
        what = "is a directory" if path.is_dir() else f"cannot be read: {error.strerror}"
        raise ConfigError(f"{path} {what}.", hint=FRESH) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.", hint=FRESH) from error
    except RecursionError as error:
        raise ConfigError(f"{path} has lists or tables nested too deep.", hint=FRESH) from error
    return checked(Config, table, str(path), "Fix these in pal.toml and run the command again.")


def checked(model: type[Model], values: Mapping[str, Any], source: str, hint: str) -> Model:
    """The settings that values make.

    Args:
        source: What the values are from, for the error.
        hint: What to do about errors.

    Raises:
        ConfigError: With every error in them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        schema = model.model_json_schema()
        lines = [line for found in error.errors(include_url=False) for line in _lines(found, schema)]
    lines = list(dict.fromkeys(lines))
    listed = "".join(f"\n  {line}" for line in lines)
    raise ConfigError(f"{source} has {len(lines)} error{'s' if len(lines) > 1 else ''}:{listed}", hint=hint)


def _lines(error: ErrorDetails, schema: Mapping[str, Any]) -> list[str]:
    """One of pydantic's findings in the words of pal.toml; a validator of ours can have found several."""
    node, path = find_node(schema, error["loc"])
    place = _place(path, schema)
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        if not path and schema["title"] == Config.__name__:
            return [f"[{name}]: there is no such section{suggest(name, node['properties'])}"]
        return [f"{_place([*path, name], schema)}: there is no such setting{suggest(name, node['properties'])}"]
    if error["type"] == "missing":
        return [f"{place} is missing; write {in_words(node)}."]
    value = error["input"]
    is_shown = not (node.get("writeOnly") or isinstance(value, Mapping | list | tuple | BaseModel))
    if error["type"] == "value_error":
        place = f"{place} = {as_toml(value)}" if is_shown else place
        return [f"{place}: {fault}" for fault in error["ctx"]["error"].args]
    shown = as_toml(value)
    given = "" if node.get("writeOnly") else f" = {shown if len(shown) <= SHOWN else f'{shown[:SHOWN]}...'}"
    return [f"{place}{given}: write {in_words(node)}."]


def _place(path: list[str | int], schema: Mapping[str, Any]) -> str:
    """Where a setting is: `[task] labels, entry 2, key`; without the section where the schema is of one."""
    names = [f"entry {step + 1}" if isinstance(step, int) else step for step in path]
    if names and schema["title"] == Config.__name__:
        section, *names = names
        return f"[{section}] {', '.join(names)}".rstrip()
    return ", ".join(names)
