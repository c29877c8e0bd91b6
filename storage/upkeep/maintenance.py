"""The lake tidied: inlined rows to Parquet, small files merged, what nobody needs deleted; no version is lost."""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.store import Store
from storage.lake_files import DataFolder

_CATALOG = "__ducklake_metadata_lake"
_OLD = "now() - INTERVAL 1 DAY"
"""Younger files may be those of a write or a read that goes on."""


@dataclass(frozen=True)
class Tidied:
    """What was done.

    Attributes:
        flushed_rows: Rows that lay in the catalog, and are in Parquet files now.
        n_files: Files that the lake's versions need, before and after.
        n_deleted: Files deleted: merged ones and orphans, all older than a day.
        freed_bytes: What they took.
    """

    flushed_rows: int
    n_files: tuple[int, int]
    n_deleted: int
    freed_bytes: int


def maintain(store: Store) -> Tidied:
    """Tidy the lake while nobody else writes. Killed, it is done by the next call; every version answers as before.

    Raises:
        StoreError: Another command keeps house, or a server refuses.
    """
    with store.housekeeping("pal maintain"), store.alone():
        before = _count_files(store)
        flushed = store.write(
            lambda c: c.execute("CALL ducklake_flush_inlined_data('lake')").fetchall(), "flush inlined rows", bulk=True
        )
        store.write(
            lambda c: c.execute("CALL ducklake_merge_adjacent_files('lake')").fetchall(), "merge files", bulk=True
        )
        after, there = _count_files(store), DataFolder(store.data).sizes()
        for function in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
            store.write(
                lambda c, name=function: c.execute(f"CALL {name}('lake', older_than => {_OLD})").fetchall(),  # type: ignore[misc]
                function,
            )
        left = DataFolder(store.data).sizes()
        deleted = [size for path, size in there.items() if path not in left]
    return Tidied(sum(int(rows) for *_, rows in flushed), (before, after), len(deleted), sum(deleted))


def _count_files(store: Store) -> int:
    tables = ("ducklake_data_file", "ducklake_delete_file")
    return sum(int(store.rows(f"SELECT count(*) FROM {_CATALOG}.{name}")[0][0]) for name in tables)
