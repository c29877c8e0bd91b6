"""Maintenance of the lake: writes inlined rows to Parquet, merges small files and deletes unreferenced files.

No version of the lake is lost. Backups and moves list the files of a catalog with this module, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import StoreError
from storage.files.folders import inside, to_disk
from storage.files.object_store import PIECE_BYTES, ObjectStore
from storage.lake.connection import Connection, quoted
from storage.lake.store import Store

CATALOG = "__ducklake_metadata_lake"
_OLD = "now() - INTERVAL 1 DAY"
"""Newer files may belong to a running write or read."""


@dataclass(frozen=True)
class Tidied:
    """The result of a maintenance.

    Attributes:
        flushed_rows: Rows moved from the catalog to Parquet files.
        n_files: Number of files of all versions, before and after.
        n_deleted: Number of deleted files (merged or orphaned, older than a day).
        freed_bytes: Total size of the deleted files.
    """

    flushed_rows: int
    n_files: tuple[int, int]
    n_deleted: int
    freed_bytes: int


def maintain(store: Store) -> Tidied:
    """Tidy the lake while nobody else writes; every version stays as it is. After a kill, repeat the call.

    Raises:
        StoreError: Another maintenance command is running, or a server fails.
    """
    with store.housekeeping("pal maintain"), store.alone():
        before = _count_files(store)
        flushed_rows = store.flush_inlined_rows()
        store.write(
            lambda c: c.execute("CALL ducklake_merge_adjacent_files('lake')").fetchall(), "merge files", bulk=True
        )
        after, sizes_before = _count_files(store), DataFolder(store.data).sizes()
        for function in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
            store.write(
                lambda c, name=function: c.execute(f"CALL {name}('lake', older_than => {_OLD})").fetchall(),  # type: ignore[misc]
                function,
            )
        remaining = DataFolder(store.data).sizes()
        deleted = [size for path, size in sizes_before.items() if path not in remaining]
    return Tidied(flushed_rows, (before, after), len(deleted), sum(deleted))


def _count_files(store: Store) -> int:
    tables = ("ducklake_data_file", "ducklake_delete_file")
    return sum(int(store.rows(f"SELECT count(*) FROM {CATALOG}.{name}")[0][0]) for name in tables)


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a lake, which never changes.

    Attributes:
        path: Relative to the data folder.
        expected_bytes: Size according to the catalog.
        table: The table of its rows.
        is_delete: Whether it lists deleted rows of another file.
    """

    path: str
    expected_bytes: int
    table: str = ""
    is_delete: bool = False


def files_of(connection: Connection, catalog: str) -> list[DataFile]:
    """All files with rows or deletions of any version of a lake.

    Args:
        catalog: The name under which the tables of its catalog are attached.

    Raises:
        StoreError: A file is outside the data folder.
    """
    return _data_files(connection.execute(_files_query(catalog)).fetchall())


def files_in_lake(store: Store) -> list[DataFile]:
    """`files_of` an open lake."""
    return _data_files(store.rows(_files_query(CATALOG)))


def _files_query(catalog: str) -> str:
    columns = "table_id, path, path_is_relative, file_size_bytes"
    return f"""SELECT s.path || t.path || f.path, f.file_size_bytes, t.table_name, f.is_delete,
            f.path_is_relative AND t.path_is_relative AND s.path_is_relative
        FROM (SELECT {columns}, false AS is_delete FROM {catalog}.ducklake_data_file
            UNION ALL SELECT {columns}, true FROM {catalog}.ducklake_delete_file) f
        JOIN (SELECT table_id, any_value(table_name) AS table_name, schema_id, path, path_is_relative
            FROM {catalog}.ducklake_table GROUP BY ALL) t USING (table_id)
        JOIN (SELECT DISTINCT schema_id, path, path_is_relative FROM {catalog}.ducklake_schema) s USING (schema_id)
        ORDER BY 1"""


def _data_files(rows: list[tuple[Any, ...]]) -> list[DataFile]:
    if outside := [path for path, *_, is_inside in rows if not is_inside]:
        raise StoreError(
            f"{len(outside):,} files of the lake are outside its data folder; the first is {outside[0]}.",
            hint="Remove them from the lake; pal does not write files there.",
        )
    return [DataFile(str(path), int(size), str(table), bool(deletes)) for path, size, table, deletes, _ in rows]


def forget_files(store: Store, paths: Iterable[str]) -> None:
    """Remove files with rows from every version of the lake, as if they had never been written.

    Only for derived rows, such as features.
    """
    names = ", ".join(quoted(PurePosixPath(path).name) for path in paths)
    file_ids = f"(SELECT data_file_id FROM ducklake_data_file WHERE path IN ({names}))"
    store.edit_catalog(
        f"""UPDATE ducklake_table_stats SET record_count = record_count - (SELECT coalesce(sum(record_count), 0)
            FROM ducklake_data_file f WHERE f.path IN ({names}) AND f.table_id = ducklake_table_stats.table_id)""",
        *(
            f"DELETE FROM {table} WHERE data_file_id IN {file_ids}"
            for table in ("ducklake_delete_file", "ducklake_file_column_stats", "ducklake_data_file")
        ),
    )


class DataFolder:
    """The folder of a lake's data, on disk or in a bucket.

    Args:
        data: An absolute folder, or `s3://bucket/folder`.

    Raises:
        StoreError: The object storage fails; raised by all methods.
    """

    def __init__(self, data: str) -> None:
        self.data = data
        self._bucket = ObjectStore(data, "[lake] data") if "://" in data else None

    def sizes(self) -> dict[str, int]:
        """All files: path relative to the folder -> bytes."""
        if self._bucket is not None:
            return {name: stored.size_bytes for name, stored in self._bucket.listing().items()}
        root = Path(self.data)
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}

    def read(self, path: str) -> Iterator[bytes]:
        """Read a file in pieces."""
        if self._bucket is not None:
            yield from self._bucket.pieces(path)
            return
        with inside(Path(self.data), path).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def write(self, path: str, pieces: Iterator[bytes]) -> str:
        """Write a file atomically; returns its SHA-256."""
        digest = hashlib.sha256()
        if self._bucket is not None:
            self._bucket.put_pieces(path, _digested(pieces, digest))
            return digest.hexdigest()
        target = inside(Path(self.data), path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with part.open("wb") as file:
            for piece in _digested(pieces, digest):
                file.write(piece)
        to_disk(part)
        part.replace(target)
        return digest.hexdigest()


def _digested(pieces: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def copy_files(files: list[DataFile], source: DataFolder, target: DataFolder) -> int:
    """Copy the files that the target lacks; returns the number of bytes copied.

    Raises:
        StoreError: A file is missing at the source, or its size differs from the catalog.
    """
    target_sizes, source_sizes, copied = target.sizes(), source.sizes(), 0
    for file in files:
        if source_sizes.get(file.path) != file.expected_bytes:
            raise StoreError(
                f"{source.data}{file.path} has {source_sizes.get(file.path, 'no')} bytes; the catalog says "
                f"{file.expected_bytes}.",
                hint="The lake is damaged. Restore the file from a backup: see pal restore --help",
            )
        if target_sizes.get(file.path) != file.expected_bytes:
            target.write(file.path, source.read(file.path))
            copied += file.expected_bytes
    return copied
