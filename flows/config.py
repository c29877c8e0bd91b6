"""pal.toml: what to classify and how, read strictly, all faults at once; and the workspace it describes."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import typing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from storage.errors import ConfigError, WorkspaceError
from storage.files.object_store import root_faults
from storage.workspace import Workspace, find_root
from tasks.learning.encoder_names import ENCODERS
from tasks.project import Config, Project


def open_project(path: Path | None = None) -> Project:
    """The workspace at `path`, else the one meant by the environment or the current directory.

    Raises:
        WorkspaceError: There is none.
        ConfigError: Its pal.toml has faults.
    """
    root = find_root(path)
    bare = Workspace(root)
    config = read_config(bare.config_file)
    workspace = Workspace(root, config.lake.catalog, config.lake.data, config.files.root)
    workspace.make()
    return Project(workspace, config)


def project_here(path: Path | None = None) -> Project | None:
    """The project that `open_project` would open; None where there is none."""
    try:
        find_root(path)
    except WorkspaceError:
        return None
    return open_project(path)


def read_config(path: Path) -> Config:
    """Read a pal.toml.

    Raises:
        ConfigError: With every fault in it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.", hint="compare it with a fresh one: pal init DIR") from error
    try:
        config = TypeAdapter(Config).validate_json(json.dumps(table, default=str))
        faults = _semantic_faults(config)
    except ValidationError as error:
        faults = list(dict.fromkeys(_fault(found) for found in error.errors()))
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{path} has {len(faults)} fault(s):\n{listed}", hint="mend them there, then try again.")
    return config


def _semantic_faults(config: Config) -> list[str]:
    """What each value alone cannot show."""
    faults = [f"[task] {fault}" for fault in config.task.faults()]
    faults += [f"[sampling] {fault}" for fault in config.sampling.faults()]
    faults += [f"[batch] {fault}" for fault in config.batch.faults()]
    faults += [f"[schedule] {fault}" for fault in config.schedule.faults()]
    faults += [f"[server] {fault}" for fault in config.server.faults()]
    faults += [f"[notify] {fault}" for fault in config.notify.faults()]
    faults += [f"[scale] {fault}" for fault in config.scale.faults()]
    faults += [f"[lake] {fault}" for fault in config.lake.faults()]
    faults += [f"[files] {fault}" for fault in root_faults(config.files.root)]
    if config.model.encoder not in ENCODERS:
        nearest = _nearest(config.model.encoder, ENCODERS)
        faults.append(f"[model] encoder = {config.model.encoder!r}: there is no such encoder{nearest}")
    at_least: dict[str, tuple[float, float]] = {
        "[batch] size": (config.batch.size, 1),
        "[minimums] evaluation": (config.minimums.evaluation, 0),
        "[minimums] validation": (config.minimums.validation, 0),
        "[minimums] training": (config.minimums.training, 2),
        "[model] epochs": (config.model.epochs, 1),
        "[model] minibatch": (config.model.minibatch, 1),
        "[model] patience": (config.model.patience, 1),
        "[model] hidden": (config.model.hidden, 0),
        "[model] seed": (config.model.seed, 0),
    }
    faults += [f"{where} = {value}; at least {least}" for where, (value, least) in at_least.items() if value < least]
    for where, rate in (
        ("[model] regularisation", config.model.regularisation),
        ("[model] learning_rate", config.model.learning_rate),
    ):
        if not rate > 0:
            faults.append(f"{where} = {rate}; above 0")
    if not 0 <= config.minimums.evaluation_share < 1:
        faults.append(f"[minimums] evaluation_share = {config.minimums.evaluation_share}; 0 to below 1")
    if not 0 <= config.promotion.confidence <= 1:
        faults.append(f"[promotion] confidence = {config.promotion.confidence}; 0 to 1")
    return faults


_KINDS = ("bool", "int", "float", "str")


def _fault(error: ErrorDetails) -> str:
    """One of pydantic's findings in the words of pal.toml."""
    if error["loc"][-1] in _KINDS and len(error["loc"]) > 2:  # of a union: what none of its kinds takes
        error = {**error, "loc": error["loc"][:-1], "msg": "give a number, or a text in quotes"}
    table, *rest = map(str, error["loc"])
    where = f"[{table}] {'.'.join(rest)}" if rest else table
    if error["type"] == "unexpected_keyword_argument":
        owner: Any = Config
        for name in error["loc"][:-1]:
            if isinstance(name, str):
                owner = typing.get_type_hints(owner)[name]
        owner = (typing.get_args(owner) or (owner,))[0]
        known = [part.name for part in dataclasses.fields(owner)]
        return f"{where}: no such key{_nearest(str(error['loc'][-1]), known)}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: missing"
    told = error["msg"].replace("an object", "a table").replace("a valid array", 'a list like ["a", "b"]')
    return f"{where} = {error['input']!r}: {told[:1].lower()}{told[1:]}"


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
