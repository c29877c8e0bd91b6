"""Files in an object store (S3, Google Cloud Storage, Azure): listed, read, written whole, removed; by Arrow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from storage.errors import StoreError

READERS = 16
PIECE_BYTES = 8 << 20
_OPTIONS = {
    "s3": "allow_delayed_open=true",  # a small file in one request
    "gs": "retry_limit_seconds=60",  # in place of fifteen minutes
    "abfs": "",
    "abfss": "",
}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET")


@dataclass(frozen=True)
class Stored:
    """A file as a listing shows it.

    Attributes:
        changed_ns: When it was written, by the store's clock, in ns since 1970; S3 tells whole seconds.
    """

    size_bytes: int
    changed_ns: int


class ObjectStore:
    """The files below `s3://bucket/folder`, named from there with `/` between; credentials are the environment's.

    Args:
        root: `s3://bucket/folder`, `gs://...` or `abfss://container@account.dfs.core.windows.net/...`, without faults.
        setting: Where the root stands, for hints.

    Every method raises StoreError where the store does not answer or refuses, and names the file and the way out.
    """

    def __init__(self, root: str, setting: str = "[files] root") -> None:
        from pyarrow import fs

        self.root, self._setting = root.rstrip("/"), setting
        parts = urlsplit(root)
        options = "&".join(filter(None, (parts.query, _OPTIONS[parts.scheme])))
        with self._told("opened"):
            self._files, bucket = fs.FileSystem.from_uri(f"{parts.scheme}://{parts.netloc}?{options}")
        self._bucket = bucket.strip("/")
        self._folder = "/".join(filter(None, (self._bucket, parts.path.strip("/"))))

    def listing(self, folder: str = "") -> dict[str, Stored]:
        """Every file below a folder of the root, by name from the root."""
        from pyarrow.fs import FileSelector, FileType

        with self._told("listed", folder):
            found = self._files.get_file_info(
                FileSelector(f"{self._folder}/{folder}".rstrip("/"), recursive=True, allow_not_found=True)
            )
            if not found and self._files.get_file_info(self._bucket).type == FileType.NotFound:
                raise OSError(f"there is no bucket {self._bucket}")
        before = len(self._folder) + 1
        files = [info for info in found if info.type == FileType.File]
        return {info.path[before:]: Stored(info.size, info.mtime_ns) for info in files}

    def get(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        with self._told("read", name):
            try:
                with self._files.open_input_stream(f"{self._folder}/{name}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
        return content

    def pieces(self, name: str) -> Iterator[bytes]:
        """A large file's content, in pieces."""
        with self._told("read", name), self._files.open_input_stream(f"{self._folder}/{name}") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece

    def put_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a large file; a failure half-way may leave a part of it."""
        with self._told("written", name), self._files.open_output_stream(f"{self._folder}/{name}") as stream:
            for piece in pieces:
                stream.write(piece)

    def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Several files' contents, read at the same time; memory holds them all."""
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(self.get, names))

    def put(self, name: str, content: bytes) -> None:
        """Write a file, there whole or not at all, in place of one of that name."""
        with self._told("written", name):
            stream = self._files.open_output_stream(f"{self._folder}/{name}")
            try:
                stream.write(content)  # all at once: closed after a part of it, that part would be the file
                stream.close()
            except BaseException:
                del stream  # Arrow tries to close it once more where it lets go of it: now, and not at some later time
                raise

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone is fine."""
        with self._told("removed", name):
            try:
                self._files.delete_file(f"{self._folder}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def _told(self, done: str, name: str = "") -> Iterator[None]:
        """Arrow's errors in words."""
        try:
            yield
        except (OSError, ValueError) as error:  # what Arrow raises
            where = f"{self.root}/{name}".rstrip("/")
            raise StoreError(
                f"{where} cannot be {done}: {_reason(error)}",
                hint=f"check {self._setting} in pal.toml, and the credentials: AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY, AWS_REGION, or the cloud's own sign-in; AWS_ENDPOINT_URL for another server "
                "than Amazon's. Then run the same again",
            ) from error


def root_faults(root: str) -> list[str]:
    """What is wrong with a `[files] root`; none where it is empty. The root itself is not told: it may hold a password.

    >>> root_faults("s3://bucket/folder"), root_faults("")
    ([], [])
    >>> root_faults("bucket/folder")
    ['root: write s3://bucket/folder, gs://bucket/folder or abfss://container@account.dfs.core.windows.net/folder']
    """
    if not root:
        return []
    parts = _split(root)
    if parts is None or parts.scheme not in _OPTIONS or not parts.netloc:
        shapes = "s3://bucket/folder, gs://bucket/folder or abfss://container@account.dfs.core.windows.net/folder"
        return [f"root: write {shapes}"]
    faults = []
    if parts.password is not None or ("@" in parts.netloc and not parts.scheme.startswith("abfs")):
        faults.append("root: no user or password here; they belong into the environment (AWS_ACCESS_KEY_ID, ...)")
    if parts.fragment or re.search(r"(?:^|&)(?!region=|scheme=|endpoint_override=)[^=]+=", parts.query):
        faults.append("root: after ? only region, scheme and endpoint_override")
    if {".", ".."} & set(parts.path.split("/")):
        faults.append("root: no . or .. in the folder")
    return faults


def _split(root: str) -> SplitResult | None:
    try:
        return urlsplit(root)
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """An error's own words in a line, without what nobody needs to know."""
    text = " ".join(str(error).split())
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r" \(Request ID: [^)]*\)", "", text).rstrip(".")
