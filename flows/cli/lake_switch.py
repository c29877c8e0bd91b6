"""The section of pal.toml with the location of the lake."""

from __future__ import annotations

from pathlib import Path

import tomlkit

from storage.files.folders import write_whole
from tasks.config.values import as_toml


def lake_lines(catalog: str, data: str) -> str:
    """The section, as written in pal.toml.

    >>> print(lake_lines("postgres:host=db dbname=pal", "s3://bucket/pal"))
    [lake]
    catalog = "postgres:host=db dbname=pal"
    data = "s3://bucket/pal"
    """
    return f"[lake]\ncatalog = {as_toml(catalog)}\ndata = {as_toml(data)}"


def switch_lake(path: Path, catalog: str, data: str) -> None:
    """Write the section into a pal.toml; other lines are unchanged."""
    document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    document.setdefault("lake", tomlkit.table()).update({"catalog": catalog, "data": data})
    write_whole(path, tomlkit.dumps(document).encode())
