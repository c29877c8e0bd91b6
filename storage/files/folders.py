"""A folder that is there whole or not at all: written beside its place, its manifest last, renamed in one step."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
"""A folder without it does not count."""


def publish_folder(folder: Path, write: Callable[[Path], dict[str, Any]]) -> bool:
    """Make a folder; False where it is there already, also when another process was faster.

    A folder of that name without a manifest gets what it lacks: what somebody has in it stays. What a killed
    process left beside it is removed.

    Args:
        write: Writes the files into the folder it is given, and returns the manifest.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    if (folder / MANIFEST).is_file():
        return False
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write_manifest(part, write(part))
        for path in (*part.iterdir(), part):
            to_disk(path)
        _take_name(part, folder)
    except OSError:
        if not (folder / MANIFEST).is_file():  # not another process that was faster
            raise
        return False
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for left in folder.parent.glob(f".{folder.name}.*.part"):  # of processes that were killed, or are too late
        shutil.rmtree(left, ignore_errors=True)
    to_disk(folder.parent)
    return True


def add_files(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Put more files into a folder that is there, then the manifest that names them; a file of that name stays.

    Args:
        write: Writes the files into the folder it is given, and returns the whole manifest.
    """
    for left in folder.glob(".*.part"):  # of a killed process
        shutil.rmtree(left, ignore_errors=True)
    part = folder / f".{os.getpid()}.part"
    part.mkdir()
    try:
        _write_manifest(part, write(part))
        for path in part.iterdir():
            to_disk(path)
        for path in part.iterdir():
            if path.name != MANIFEST and not (folder / path.name).exists():
                path.rename(folder / path.name)
        to_disk(folder)
        os.replace(part / MANIFEST, folder / MANIFEST)  # noqa: PTH105
    finally:
        shutil.rmtree(part, ignore_errors=True)
    to_disk(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, in place of one of that name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        to_disk(part)
        os.replace(part, path)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """fsync a file, or a folder where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")


def _take_name(part: Path, folder: Path) -> None:
    """Give the written folder its name; move what is missing where a folder of that name has no manifest."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir() or (folder / MANIFEST).is_file():
            raise
        for path in sorted(part.iterdir(), key=lambda path: path.name == MANIFEST):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
        to_disk(folder)


def remove_left_parts(parent: Path, older_than_s: float = 86_400) -> None:
    """Remove what killed processes left half written beside the folders in `parent`; younger ones may be at work."""
    for left in parent.glob(".*.part"):
        if time.time() - left.stat().st_mtime > older_than_s:
            shutil.rmtree(left, ignore_errors=True)
