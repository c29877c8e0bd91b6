"""Maintenance of the lake: inlined rows to Parquet, small files merged, unreferenced files deleted.

No version of the lake is lost. The files that a catalog names are listed here, for backup and move too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from storage.errors import StoreError
from storage.files.folders import to_disk
from storage.lake.connection import Connection, object_storage, told
from storage.lake.store import Store

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


_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a lake: its place from the data folder, and its size; it never changes.

    Attributes:
        expected_bytes: As the catalog says.
    """

    path: str
    expected_bytes: int


def files_of(connection: Connection, catalog: str) -> list[DataFile]:
    """Every file with rows or deletions that any version of a lake needs.

    Args:
        catalog: The name under which its catalog's tables are attached.

    Raises:
        StoreError: A file lies outside of the data folder.
    """
    rows = connection.execute(
        f"""SELECT s.path || t.path || f.path, f.file_size_bytes,
            f.path_is_relative AND t.path_is_relative AND s.path_is_relative
        FROM (SELECT table_id, path, path_is_relative, file_size_bytes FROM {catalog}.ducklake_data_file
            UNION ALL SELECT table_id, path, path_is_relative, file_size_bytes FROM {catalog}.ducklake_delete_file) f
        JOIN (SELECT DISTINCT table_id, schema_id, path, path_is_relative FROM {catalog}.ducklake_table) t
            USING (table_id)
        JOIN (SELECT DISTINCT schema_id, path, path_is_relative FROM {catalog}.ducklake_schema) s USING (schema_id)
        ORDER BY 1"""
    ).fetchall()
    if outside := [path for path, _, inside in rows if not inside]:
        raise StoreError(
            f"{len(outside)} files of the lake lie outside of its data folder, {outside[0]} first.",
            hint="pal writes none there; take them out of the lake",
        )
    return [DataFile(str(path), int(size)) for path, size, _ in rows]


class DataFolder:
    """The folder of a lake's data, on a disk or in a bucket.

    Args:
        data: An absolute folder, or `s3://bucket/folder`.

    Raises:
        StoreError: The object storage does not answer, or refuses; so do all methods.
    """

    def __init__(self, data: str) -> None:
        self.data = data
        self.is_remote = "://" in data
        if self.is_remote:
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            scheme, server = object_storage()
            self._files = pafs.S3FileSystem(region=region, scheme=scheme, endpoint_override=server or None)
            self._root = data.partition("://")[2].rstrip("/")
        else:
            self._files = pafs.LocalFileSystem()
            self._root = data.rstrip("/\\")

    def sizes(self) -> dict[str, int]:
        """Every file there: its place from the folder -> bytes."""
        wanted = pafs.FileSelector(self._root, recursive=True, allow_not_found=True)
        with self._telling():
            found = self._files.get_file_info(wanted)
        root = len(self._root) + 1
        return {each.path[root:]: each.size for each in found if each.type is pafs.FileType.File}

    def read(self, path: str) -> Iterator[bytes]:
        """A file in pieces."""
        with self._telling(), self._files.open_input_stream(f"{self._root}/{path}") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def write(self, path: str, pieces: Iterator[bytes]) -> str:
        """Write a file, there whole or not at all; returns its sha256."""
        digest = hashlib.sha256()
        place = f"{self._root}/{path}"
        if not self.is_remote:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        part = place if self.is_remote else f"{place}.part"
        with self._telling(), self._files.open_output_stream(part) as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
        if not self.is_remote:
            to_disk(Path(part))
            os.replace(part, place)  # noqa: PTH105
        return digest.hexdigest()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say what the object storage's refusal means, and what to type."""
        try:
            yield
        except OSError as error:
            if fault := told(error, f"data in {self.data}"):
                raise fault from error
            raise


def copy_files(files: list[DataFile], source: DataFolder, target: DataFolder) -> int:
    """Copy those that are not there yet, byte for byte; returns the bytes copied.

    Raises:
        StoreError: A file is missing at the source or has another size than the catalog says.
    """
    there, had, copied = target.sizes(), source.sizes(), 0
    for file in files:
        if had.get(file.path) != file.expected_bytes:
            raise StoreError(
                f"{source.data}{file.path} has {had.get(file.path, 'no')} bytes, the catalog says "
                f"{file.expected_bytes}.",
                hint="the lake is damaged: bring the file back from a backup, see pal restore --help",
            )
        if there.get(file.path) != file.expected_bytes:
            target.write(file.path, source.read(file.path))
            copied += file.expected_bytes
    return copied
