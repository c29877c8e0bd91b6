"""The two lines of pal.toml that say where the lake is, written there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from storage.errors import ConfigError
from storage.files.folders import write_whole
from tasks.config.values import as_toml


def lake_lines(catalog: str, data: str) -> str:
    """The lines, for pal.toml.

    >>> print(lake_lines("postgres:host=db dbname=pal", "s3://bucket/pal"))
    [lake]
    catalog = "postgres:host=db dbname=pal"
    data = "s3://bucket/pal"
    """
    return f"[lake]\ncatalog = {as_toml(catalog)}\ndata = {as_toml(data)}"


def switch_lake(path: Path, catalog: str, data: str) -> None:
    """Write them into a pal.toml, whose other lines stay as they are.

    Raises:
        ConfigError: They could not be put in; the file is as it was.
    """
    before = path.read_text(encoding="utf-8-sig")
    section = re.search(r"^\[lake\][^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", before, re.MULTILINE)
    if section is None:
        after = f"{before.rstrip()}\n\n{lake_lines(catalog, data)}\n"
    else:
        text = section[0]
        for line in reversed(lake_lines(catalog, data).splitlines()[1:]):  # those that are missing follow the heading
            name, verbatim = line.partition(" ")[0], line.replace("\\", r"\\")
            text, n_changed = re.subn(rf"^{name}\s*=[^\n]*", verbatim, text, flags=re.MULTILINE)
            text = text if n_changed else text.replace("\n", f"\n{line}\n", 1)
        after = before[: section.start()] + text + before[section.end() :]
    wanted = tomllib.loads(before) | {"lake": {"catalog": catalog, "data": data}}
    try:
        is_so = tomllib.loads(after) == wanted
    except tomllib.TOMLDecodeError:
        is_so = False
    if not is_so:
        raise ConfigError(
            f"the lake's place could not be written into {path}.",
            hint=f"write it there yourself:\n{lake_lines(catalog, data)}",
        )
    write_whole(path, after.encode())
