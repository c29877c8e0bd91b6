"""List, read, write and delete files in an object store (S3, Google Cloud Storage, Azure), with PyArrow."""

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
    "gs": "retry_limit_seconds=60",  # the default is 15 minutes
    "abfs": "",
    "abfss": "",
}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET")


@dataclass(frozen=True)
class Stored:
    """The entry of a file in a listing.

    Attributes:
        size_bytes: Its size.
        changed_ns: The time of the last write by the store's clock, in ns since 1970; S3 has whole seconds.
    """

    size_bytes: int
    changed_ns: int


class ObjectStore:
    """The files below a root such as `s3://bucket/folder`; their names are paths relative to it, separated by `/`.

    Credentials come from the environment. Every method raises `StoreError` if the store cannot be reached or refuses
    access.

    Args:
        root: `s3://bucket/folder`, `gs://...` or `abfss://container@account.dfs.core.windows.net/...`; `root_faults`
            must be empty.
        setting: The setting in pal.toml that contains the root, for hints.
    """

    def __init__(self, root: str, setting: str = "[files] root") -> None:
        from pyarrow import fs

        self.root, self._setting = root.rstrip("/"), setting
        parts = urlsplit(root)
        options = "&".join(filter(None, (parts.query, _OPTIONS[parts.scheme])))
        with self._translated_errors("opened"):
            self._files, bucket = fs.FileSystem.from_uri(f"{parts.scheme}://{parts.netloc}?{options}")
        self._bucket = bucket.strip("/")
        self._folder = "/".join(filter(None, (self._bucket, parts.path.strip("/"))))

    def listing(self, folder: str = "") -> dict[str, Stored]:
        """Return every file below a folder of the root: name relative to the root -> entry."""
        from pyarrow.fs import FileSelector, FileType

        with self._translated_errors("listed", folder):
            entries = self._files.get_file_info(
                FileSelector(f"{self._folder}/{folder}".rstrip("/"), recursive=True, allow_not_found=True)
            )
            if not entries and self._files.get_file_info(self._bucket).type == FileType.NotFound:
                raise OSError(f"bucket {self._bucket} does not exist")
        prefix = len(self._folder) + 1
        files = [info for info in entries if info.type == FileType.File]
        return {info.path[prefix:]: Stored(info.size, info.mtime_ns) for info in files}

    def get(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        with self._translated_errors("read", name):
            try:
                with self._files.open_input_stream(f"{self._folder}/{name}") as stream:
                    content: bytes = stream.read()
            except FileNotFoundError:
                return None
        return content

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the content of a large file in pieces of at most `PIECE_BYTES`."""
        with self._translated_errors("read", name), self._files.open_input_stream(f"{self._folder}/{name}") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece

    def put_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a large file; an incomplete file may remain after an error."""
        with (
            self._translated_errors("written", name),
            self._files.open_output_stream(f"{self._folder}/{name}") as stream,
        ):
            for piece in pieces:
                stream.write(piece)

    def get_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the contents of several files, read concurrently; all must fit into memory."""
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(self.get, names))

    def put(self, name: str, content: bytes) -> None:
        """Write a file completely or not at all; an existing file is replaced."""
        with self._translated_errors("written", name):
            stream = self._files.open_output_stream(f"{self._folder}/{name}")
            try:
                stream.write(content)  # in one call: closing after a part would store only this part
                stream.close()
            except BaseException:
                del stream  # Arrow closes a stream when it is released; do it now, not at some later time
                raise

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with self._translated_errors("removed", name):
            try:
                self._files.delete_file(f"{self._folder}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def _translated_errors(self, verb: str, name: str = "") -> Iterator[None]:
        """Translate Arrow's errors into a `StoreError` with a hint."""
        try:
            yield
        except (OSError, ValueError) as error:  # the errors that Arrow raises
            uri = f"{self.root}/{name}".rstrip("/")
            raise StoreError(
                f"{uri} cannot be {verb}: {_reason(error)}.",
                hint=f"Check {self._setting} in pal.toml and the credentials: AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_REGION, or the sign-in of your cloud; set AWS_ENDPOINT_URL for a "
                "server other than Amazon's. Then run the command again.",
            ) from error


def root_faults(root: str) -> list[str]:
    """Return the faults of a `[files] root`, without quoting it, as it may contain a password; an empty one is valid.

    >>> root_faults("s3://bucket/folder"), root_faults("")
    ([], [])
    >>> root_faults("bucket/folder")
    ['write s3://bucket/folder, gs://bucket/folder or abfss://container@account.dfs.core.windows.net/folder']
    """
    if not root:
        return []
    parts = _split(root)
    if parts is None or parts.scheme not in _OPTIONS or not parts.netloc:
        examples = "s3://bucket/folder, gs://bucket/folder or abfss://container@account.dfs.core.windows.net/folder"
        return [f"write {examples}"]
    faults = []
    if parts.password is not None or ("@" in parts.netloc and not parts.scheme.startswith("abfs")):
        faults.append("set user and password in the environment (AWS_ACCESS_KEY_ID, ...), not here")
    if parts.fragment or re.search(r"(?:^|&)(?!region=|scheme=|endpoint_override=)[^=]+=", parts.query):
        faults.append("only region, scheme and endpoint_override are allowed after '?'")
    if {".", ".."} & set(parts.path.split("/")):
        faults.append("the folder must not contain '.' or '..'")
    return faults


def _split(root: str) -> SplitResult | None:
    try:
        return urlsplit(root)
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """Return the message of an error on one line, without secrets and request ids."""
    text = " ".join(str(error).split())
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r" \(Request ID: [^)]*\)", "", text).rstrip(".")
