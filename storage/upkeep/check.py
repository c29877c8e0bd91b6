"""Checks a workspace for damage: texts, files of the lake, models, encoders and batches against their hashes.

Nothing is changed here; `tasks/repair.py` repairs what can be derived from other data.
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
"""What can be regenerated: a batch's files, the features in a file of the lake, the record of runs."""

_QUICK_CHECK = """
import sqlite3, sys
try:
    print(*next(sqlite3.connect(sys.argv[1], timeout=30, uri=True).execute("PRAGMA quick_check(1)")))
except sqlite3.OperationalError:
    pass  # locked or read-only, not damaged
except sqlite3.DatabaseError as error:
    print(error)
"""

_RESTORE = "Restore a backup and copy this file from it: pal restore BACKUP NEW_DIRECTORY"
_MODEL = "Restore the folder from a backup, or delete it and train again: pal next"
_ENCODER = "Restore the folder from a backup, or delete it and make the encoder again: pal adapt"
_REPAIR = "Write it again: pal check --repair"


@dataclass(frozen=True)
class Damage:
    """A damaged or missing file.

    Attributes:
        path: The file or folder, relative to the workspace if it is inside.
        hint: How to recover it.
        repair: How it can be regenerated; empty if only a backup helps.
        name: What to regenerate: a batch id or a file of the lake.
    """

    path: str
    what: str
    hint: str
    repair: Repair = ""
    name: str = ""


@dataclass
class Checked:
    """The result of a check.

    Attributes:
        counts: Number of checked objects by kind.
    """

    damaged: list[Damage] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check_contents(workspace: Workspace) -> Checked:
    """Check the lake, models and encoders, which a backup copies."""
    checked = Checked()
    store = _check_lake(workspace, checked)
    _check_models(workspace, store, checked)
    _check_encoders(workspace, checked)
    return checked


def check_workspace(workspace: Workspace) -> Checked:
    """Check the contents, batches and the record of runs of a workspace."""
    with contextlib.suppress(StoreError):  # reported by the check of the lake
        workspace.fetch_all()
    checked = check_contents(workspace)
    with contextlib.suppress(StoreError):
        _check_batches(workspace, workspace.store(), checked)
    if (workspace.root / "lake" / INTENT).exists():
        hint = "Finish it: pal items erase --yes"
        checked.damaged.append(Damage(f"lake/{INTENT}", "an erasure was interrupted", hint))
    if reason := _sqlite_damage(workspace.root / RUNS_FILE):
        hint = "Move it aside and start a new record: pal check --repair"
        checked.damaged.append(Damage(RUNS_FILE, reason, hint, "runs"))
    return checked


def _check_lake(workspace: Workspace, checked: Checked) -> Store | None:
    """Check the catalog, its files and all texts; returns the lake, or None if it cannot be opened."""
    try:
        catalog = workspace.catalog_file
        if catalog is not None and (reason := _sqlite_damage(catalog)):
            hint = "Restore the workspace from a backup: pal restore BACKUP NEW_DIRECTORY"
            checked.damaged.append(Damage(workspace.name_of(catalog), reason, hint))
            return None
        store = workspace.store()
        files = files_in_lake(store)
        sizes = DataFolder(store.data).sizes()
    except PalError as error:
        checked.damaged.append(Damage("lake", error.what.rstrip("."), error.hint))
        return None
    items_are_readable = True
    for file in files:
        if reason := _file_damage(store, file, sizes.get(file.path)):
            items_are_readable = items_are_readable and file.table != "items"
            path = f"{workspace.data.rstrip('/')}/{file.path}"
            is_derived = file.table == "features" and not file.is_delete
            hint = "Compute these features again: pal check --repair" if is_derived else _RESTORE
            checked.damaged.append(Damage(path, reason, hint, "features" if is_derived else "", file.path))
    checked.counts["lake files"] = len(files)
    if items_are_readable:
        _check_texts(store, checked)
    return store


def _sqlite_damage(path: Path) -> str:
    """Why a SQLite file is damaged; empty if it is not, or does not exist.

    It is read in a separate process: DuckDB's SQLite and Python's release each other's locks within one process.
    """
    if not path.is_file() or not path.stat().st_size:
        return ""
    command = [sys.executable, "-I", "-S", "-c", _QUICK_CHECK, f"{path.absolute().as_uri()}?mode=ro"]
    report = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return "" if report in ("ok", "") else f"it is not an intact SQLite file ({' '.join(report.split())})"


def _file_damage(store: Store, file: DataFile, n_bytes: int | None) -> str:
    """Why a file of the lake is damaged; empty if it is not."""
    if n_bytes is None:
        return "it is missing"
    if n_bytes != file.expected_bytes:
        return f"it has {n_bytes:,} bytes; the catalog says {file.expected_bytes:,}"
    try:
        store.rows("SELECT count(*), bit_xor(hash(f)) FROM read_parquet(?) f", [f"{store.data}{file.path}"])
    except StoreError as error:
        return f"it cannot be read ({' '.join(str(error.__cause__).split())})"
    return ""


def _check_texts(store: Store, checked: Checked) -> None:
    wrong: dict[str, list[str]] = {}
    n = 0
    try:
        for batch in store.stream("SELECT item_id, text, text_hash, filename FROM lake.items"):
            n += batch.num_rows
            texts = folded_texts(batch.column("text")).to_pylist()
            for k, (text, expected) in enumerate(zip(texts, batch.column("text_hash").to_pylist(), strict=True)):
                if hash_of_folded(text) != expected:
                    row = batch.slice(k, 1).to_pylist()[0]
                    wrong.setdefault(row["filename"] or store.catalog, []).append(row["item_id"])
    except (StoreError, UnicodeError) as error:
        checked.damaged.append(Damage("lake", f"its texts cannot be read ({error})", _RESTORE))
    checked.counts["texts"] = n
    for file, ids in wrong.items():
        mismatch = "text does not match its hash" if len(ids) == 1 else "texts do not match their hashes"
        checked.damaged.append(Damage(file, f"{len(ids):,} {mismatch}; the first is item {ids[0]}", _RESTORE))


def _check_models(workspace: Workspace, store: Store | None, checked: Checked) -> None:
    try:
        models = {model.model_id: model for model in all_models(store)} if store else {}
        current = production_model(store) if store else None
    except PalError as error:
        checked.damaged.append(Damage("lake", error.what.rstrip("."), error.hint))
        models, current = {}, None
    folders = _folders(workspace.models)
    for folder in folders:
        hashes = _hashes_in(folder, lambda values: {"model.safetensors": values["weights_sha256"]}, _MODEL, checked)
        model, weights = models.get(folder.name), hashes.get("model.safetensors")
        if model and weights and model.weights_hash != weights:
            what = f"its weights have sha256 {weights}; the lake says {model.weights_hash}"
            checked.damaged.append(Damage(f"models/{folder.name}", what, _MODEL))
    if current and current.model_id not in {folder.name for folder in folders}:
        what = "the folder of the production model is missing"
        checked.damaged.append(Damage(f"models/{current.model_id}", what, _MODEL))
    checked.counts["models"] = len(folders)


def _check_encoders(workspace: Workspace, checked: Checked) -> None:
    folders = _folders(workspace.encoders)
    for folder in folders:
        _hashes_in(folder, lambda values: values["sha256"], _ENCODER, checked)
    checked.counts["encoders"] = len(folders)


def _hashes_in(folder: Path, hashes_of: Any, hint: str, checked: Checked) -> dict[str, str]:
    """Check a folder's files against the hashes in its manifest, and return those."""
    folder_name = f"{folder.parent.name}/{folder.name}"
    try:
        hashes = hashes_of(read_object(folder / MANIFEST))
        for name, expected in hashes.items():
            path = inside(folder, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            if digest != expected:
                what = f"its sha256 is {digest}; the manifest says {expected}"
                what = what if digest != "missing" else "it is missing"
                checked.damaged.append(Damage(f"{folder_name}/{name}", what, hint))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, WorkspaceError) as error:
        checked.damaged.append(Damage(f"{folder_name}/{MANIFEST}", f"it is damaged ({error})", hint))
        return {}
    return dict(hashes)


def _check_batches(workspace: Workspace, store: Store, checked: Checked) -> None:
    """Check the folders of batches against the lake, both ways."""
    batches = batch_hashes(store)
    folders = _folders(workspace.batches)
    for folder in folders:
        path, name = f"batches/{folder.name}", folder.name
        if name not in batches:
            what = "the lake has no such batch: the folder or the lake is from another time or workspace"
            checked.damaged.append(Damage(path, what, "Move the folder away, or restore the lake: pal restore"))
            continue
        try:
            manifest = read_object(folder / MANIFEST)
            missing = [file for file in manifest["files"] if not inside(folder, file).is_file()]
            items = {item["item_id"]: item["text_hash"] for item in manifest["items"]}
        except (ValueError, LookupError, TypeError, AttributeError, WorkspaceError) as error:
            checked.damaged.append(Damage(f"{path}/{MANIFEST}", f"it is damaged ({error})", _REPAIR, "batch", name))
            continue
        for file in missing:
            checked.damaged.append(Damage(f"{path}/{file}", "it is missing", _REPAIR, "batch", name))
        expected = batches[name].hashes
        if any(items.get(item_id) not in hashes for item_id, hashes in expected.items()):
            what = "its items differ from those in the lake"
            checked.damaged.append(Damage(f"{path}/{MANIFEST}", what, _REPAIR, "batch", name))
    names = {folder.name for folder in folders}
    for batch_id, batch in batches.items():
        if batch.is_open and batch_id not in names:
            checked.damaged.append(
                Damage(f"batches/{batch_id}", "the folder of this open batch is missing", _REPAIR, "batch", batch_id)
            )
    checked.counts["batches"] = len(folders)


def _folders(parent: Path) -> list[Path]:
    """The published folders, which have a manifest."""
    return sorted(path.parent for path in parent.glob(f"[!.]*/{MANIFEST}"))
