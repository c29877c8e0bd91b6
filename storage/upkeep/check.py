"""What is damaged in a workspace: texts, the lake's files, models, encoders and batches against what vouches for them.

Nothing is changed here. `tasks/repair.py` repairs what follows from the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from storage.errors import PalError, StoreError, WorkspaceError
from storage.files.folders import MANIFEST, inside, read_object
from storage.lake.batches import batch_hashes
from storage.lake.items import folded_texts
from storage.lake.models import all_models, production_model
from storage.lake.store import Store
from storage.readers.spellings import hash_of_folded
from storage.run_records import RUNS_FILE
from storage.upkeep.erasure import INTENT
from storage.upkeep.maintenance import DataFile, DataFolder, files_in_lake
from storage.workspace import Workspace

Repair = Literal["", "batch", "features", "runs"]
"""What can be made again: a batch's files, the features of a lake's file, the record of runs."""

_QUICK_CHECK = """
import sqlite3, sys
try:
    print(*next(sqlite3.connect(sys.argv[1], timeout=30, uri=True).execute("PRAGMA quick_check(1)")))
except sqlite3.OperationalError:
    pass  # locked, or read-only: that is no damage
except sqlite3.DatabaseError as error:
    print(error)
"""

_RESTORE = "Restore a backup and copy this file from it: pal restore BACKUP NEW_DIRECTORY"
_MODEL = "Restore the folder from a backup; or remove it, then train again: pal next"
_ENCODER = "Restore the folder from a backup; or remove it, then make the encoder again: pal adapt"
_REPAIR = "Write it again: pal check --repair"


@dataclass(frozen=True)
class Damage:
    """Something that is not what it should be.

    Attributes:
        path: The file or folder, from the workspace's directory where it is in it.
        hint: How to get it back.
        repair: How it can be made again; empty where only a backup has it.
        name: What is to be made again: a batch's id, a lake's file.
    """

    path: str
    what: str
    hint: str
    repair: Repair = ""
    name: str = ""


@dataclass
class Checked:
    """What a check found.

    Attributes:
        counts: How many of each kind were looked at.
    """

    damaged: list[Damage] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check_contents(workspace: Workspace) -> Checked:
    """Check what a backup copies: the lake, models and encoders."""
    found = Checked()
    store = _check_lake(workspace, found)
    _check_models(workspace, store, found)
    _check_encoders(workspace, found)
    return found


def check_workspace(workspace: Workspace) -> Checked:
    """Check everything of a workspace: `check_contents`, batches and the record of runs."""
    with contextlib.suppress(StoreError):  # the check of the lake says what it is
        workspace.fetch_all()
    found = check_contents(workspace)
    with contextlib.suppress(StoreError):
        _check_batches(workspace, workspace.store(), found)
    if (workspace.root / "lake" / INTENT).exists():
        hint = "Finish it: pal items erase --yes"
        found.damaged.append(Damage(f"lake/{INTENT}", "erasing texts was interrupted", hint))
    if reason := _sqlite_damage(workspace.root / RUNS_FILE):
        hint = "Put it aside and begin a new record: pal check --repair"
        found.damaged.append(Damage(RUNS_FILE, reason, hint, "runs"))
    return found


def _check_lake(workspace: Workspace, found: Checked) -> Store | None:
    """Check the catalog, each file that it names, and each text; returns the lake, None where it cannot be opened."""
    try:
        catalog = workspace.catalog_file
        if catalog is not None and (reason := _sqlite_damage(catalog)):
            hint = "Restore the workspace from a backup: pal restore BACKUP NEW_DIRECTORY"
            found.damaged.append(Damage(workspace.name_of(catalog), reason, hint))
            return None
        store = workspace.store()
        files = files_in_lake(store)
        sizes = DataFolder(store.data).sizes()
    except PalError as error:
        found.damaged.append(Damage("lake", error.what.rstrip("."), error.hint))
        return None
    whole = True
    for file in files:
        if reason := _file_damage(store, file, sizes.get(file.path)):
            whole = whole and file.table != "items"
            place = f"{workspace.data.rstrip('/')}/{file.path}"
            again = file.table == "features" and not file.is_delete
            hint = "Make these features again: pal check --repair" if again else _RESTORE
            found.damaged.append(Damage(place, reason, hint, "features" if again else "", file.path))
    found.counts["lake files"] = len(files)
    if whole:
        _check_texts(store, found)
    return store


def _sqlite_damage(path: Path) -> str:
    """Why a SQLite file cannot be trusted; empty where it can, or where there is none.

    It is read in a process of its own: DuckDB's SQLite and Python's undo each other's locks in one.
    """
    if not path.is_file() or not path.stat().st_size:
        return ""
    command = [sys.executable, "-I", "-S", "-c", _QUICK_CHECK, f"{path.absolute().as_uri()}?mode=ro"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return "" if found in ("ok", "") else f"it is no whole SQLite file ({' '.join(found.split())})"


def _file_damage(store: Store, file: DataFile, n_bytes: int | None) -> str:
    """Why a file of the lake cannot be trusted; empty where it can."""
    if n_bytes is None:
        return "it is missing"
    if n_bytes != file.expected_bytes:
        return f"it has {n_bytes:,} bytes; the catalog says {file.expected_bytes:,}"
    try:
        store.rows("SELECT count(*), bit_xor(hash(f)) FROM read_parquet(?) f", [f"{store.data}{file.path}"])
    except StoreError as error:
        return f"it cannot be read ({' '.join(str(error.__cause__).split())})"
    return ""


def _check_texts(store: Store, found: Checked) -> None:
    wrong: dict[str, list[str]] = {}
    n = 0
    try:
        for batch in store.stream("SELECT item_id, text, text_hash, filename FROM lake.items"):
            n += batch.num_rows
            texts = folded_texts(batch.column("text")).to_pylist()
            for k, (text, wanted) in enumerate(zip(texts, batch.column("text_hash").to_pylist(), strict=True)):
                if hash_of_folded(text) != wanted:
                    row = batch.slice(k, 1).to_pylist()[0]
                    wrong.setdefault(row["filename"] or store.catalog, []).append(row["item_id"])
    except (StoreError, UnicodeError) as error:
        found.damaged.append(Damage("lake", f"its texts cannot be read ({error})", _RESTORE))
    found.counts["texts"] = n
    for file, ids in wrong.items():
        some = "text does not match its hash" if len(ids) == 1 else "texts do not match their hashes"
        found.damaged.append(Damage(file, f"{len(ids):,} {some}; the first is item {ids[0]}", _RESTORE))


def _check_models(workspace: Workspace, store: Store | None, found: Checked) -> None:
    try:
        known = {model.model_id: model for model in all_models(store)} if store else {}
        current = production_model(store) if store else None
    except PalError as error:
        found.damaged.append(Damage("lake", error.what.rstrip("."), error.hint))
        known, current = {}, None
    folders = _folders(workspace.models)
    for folder in folders:
        hashes = _hashes_in(folder, lambda values: {"model.safetensors": values["weights_sha256"]}, _MODEL, found)
        model, weights = known.get(folder.name), hashes.get("model.safetensors")
        if model and weights and model.weights_hash != weights:
            what = f"its weights have sha256 {weights}; the lake says {model.weights_hash}"
            found.damaged.append(Damage(f"models/{folder.name}", what, _MODEL))
    if current and current.model_id not in {folder.name for folder in folders}:
        what = "the folder of the model in production is missing"
        found.damaged.append(Damage(f"models/{current.model_id}", what, _MODEL))
    found.counts["models"] = len(folders)


def _check_encoders(workspace: Workspace, found: Checked) -> None:
    folders = _folders(workspace.encoders)
    for folder in folders:
        _hashes_in(folder, lambda values: values["sha256"], _ENCODER, found)
    found.counts["encoders"] = len(folders)


def _hashes_in(folder: Path, wanted: Any, hint: str, found: Checked) -> dict[str, str]:
    """Check a folder's files against the hashes in its manifest, and return those."""
    place = f"{folder.parent.name}/{folder.name}"
    try:
        hashes = wanted(read_object(folder / MANIFEST))
        for name, expected in hashes.items():
            path = inside(folder, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            if digest != expected:
                what = f"its sha256 is {digest}; the manifest says {expected}"
                found.damaged.append(Damage(f"{place}/{name}", what if digest != "missing" else "it is missing", hint))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, WorkspaceError) as error:
        found.damaged.append(Damage(f"{place}/{MANIFEST}", f"it is damaged ({error})", hint))
        return {}
    return dict(hashes)


def _check_batches(workspace: Workspace, store: Store, found: Checked) -> None:
    """Check the folders of batches against the lake, both ways."""
    known = batch_hashes(store)
    folders = _folders(workspace.batches)
    for folder in folders:
        place, name = f"batches/{folder.name}", folder.name
        if name not in known:
            what = "the lake does not know this batch: the folder or the lake is of another time or workspace"
            found.damaged.append(Damage(place, what, "Move the folder away, or restore the lake: pal restore"))
            continue
        try:
            manifest = read_object(folder / MANIFEST)
            missing = [file for file in manifest["files"] if not inside(folder, file).is_file()]
            items = {item["item_id"]: item["text_hash"] for item in manifest["items"]}
        except (ValueError, LookupError, TypeError, AttributeError, WorkspaceError) as error:
            found.damaged.append(Damage(f"{place}/{MANIFEST}", f"it is damaged ({error})", _REPAIR, "batch", name))
            continue
        for file in missing:
            found.damaged.append(Damage(f"{place}/{file}", "it is missing", _REPAIR, "batch", name))
        own = known[name].hashes
        if any(items.get(item_id) not in hashes for item_id, hashes in own.items()):
            what = "its items are not those that the lake has for this batch"
            found.damaged.append(Damage(f"{place}/{MANIFEST}", what, _REPAIR, "batch", name))
    there = {folder.name for folder in folders}
    for batch_id, batch in known.items():
        if batch.is_open and batch_id not in there:
            found.damaged.append(
                Damage(f"batches/{batch_id}", "the folder of this open batch is missing", _REPAIR, "batch", batch_id)
            )
    found.counts["batches"] = len(folders)


def _folders(parent: Path) -> list[Path]:
    """The published folders: those with a manifest, whatever is in it."""
    return sorted(path.parent for path in parent.glob(f"[!.]*/{MANIFEST}"))
