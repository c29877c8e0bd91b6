"""Texts put into a lake as an import does, and all that a lake holds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.lake.connection import bound
from storage.lake.items import Imported, add_items, stage
from storage.lake.store import Store
from storage.workspace import Workspace

TABLES = {
    "items": "item_id, text, text_hash, published_at, source",
    "features": "encoder_id, item_id, tokens",
    "batches": "batch_id, purpose, status, n, model_id, seed, label_set, mix",
    "batch_items": "batch_id, item_id, strategy, score, rank, position",
    "annotations": "item_id, annotator, answer, note, batch_id, seconds, source_file",
}


def add_rows(store: Store, rows: Sequence[tuple[str | None, str]], source: str = "test.csv") -> Imported:
    """Take rows (id, text) into the lake."""
    table = pa.table(
        {
            "row": pa.array(range(1, len(rows) + 1), pa.int64()),
            "item_id": pa.array([item_id for item_id, _ in rows], pa.string()),
            "text": pa.array([text for _, text in rows], pa.string()),
            "published_at": pa.nulls(len(rows), pa.timestamp("us")),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        stage([table], Path(folder) / "staged.parquet")
        return add_items(store, Path(folder) / "staged.parquet", source)


def set_context(workspace: Workspace, columns: Mapping[str, Any], where: str = "true") -> None:
    """Give items columns, as an import does."""
    sql = bound(f"UPDATE lake.items SET context = ? WHERE {where}", [json.dumps(columns)])
    workspace.store().write(lambda connection: connection.execute(sql), "context")


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of texts, batches and answers, without the times at which it was written."""
    return {name: store.rows(f"SELECT {columns} FROM lake.{name} ORDER BY ALL") for name, columns in TABLES.items()}
