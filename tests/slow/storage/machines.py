"""Machines that share an object store, as the tests of mirrors begin with: their folders, and what the store has."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path
from typing import Any

from storage.files.folders import MANIFEST, publish_folder
from storage.files.mirror import Mirror
from storage.files.object_store import ObjectStore

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["storage.files.mirror", "pyarrow.fs"])


def machine(root: str, local: Path) -> Mirror:
    """One with its folders in `local`."""
    local.mkdir(exist_ok=True)
    return Mirror(root, local)


def write(folder: Path, files: dict[str, str]) -> None:
    """Publish a folder whose manifest has the hashes of its files."""

    def into(part: Path) -> dict[str, Any]:
        for name, text in files.items():
            (part / name).write_text(text, encoding="utf-8")
        return {"files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}}

    publish_folder(folder, into)


def texts(folder: Path) -> dict[str, str]:
    """What lies in a folder."""
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name != MANIFEST}


def stored(store: ObjectStore, folder: str) -> dict[str, str]:
    """What lies in a folder of the store, by name from there."""
    found = {name: store.get(name) for name in store.listing(folder) if not name.endswith(MANIFEST)}
    return {name.removeprefix(f"{folder}/"): (content or b"").decode() for name, content in found.items()}
