"""Every error a user can meet: what happened, with the values, then what to type.

PalError
├── ConfigError        pal.toml says something that cannot be
├── WorkspaceError     no workspace here, or one that cannot be used
├── SourceError        a file of texts to import cannot be read
├── BatchError         a batch or a batch file is not what it should be
├── SamplingError      a batch cannot be drawn as asked
├── ModelError         a model is missing, damaged, or does not fit
├── ServiceError       the server or the worker cannot be brought up or stopped
├── StoreError         the lake, or the files that machines share, cannot be opened, read or written
└── DiskError          the disk is full, or must not be written
"""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path


class PalError(Exception):
    """What happened, with the values, and a hint that says what to type.

    >>> print(PalError("12 available / 100 requested.", hint="pal next -n 12"))
    12 available / 100 requested.
    Hint: pal next -n 12
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nHint: {self.hint}"


class ConfigError(PalError):
    """pal.toml says something that cannot be; all faults at once."""


class WorkspaceError(PalError):
    """There is no workspace, or it cannot be used."""


class SourceError(PalError):
    """A file of texts cannot be read at all (single bad rows are rejects, not errors)."""


class BatchError(PalError):
    """A batch or a batch file is not what it should be."""


class SamplingError(PalError):
    """A batch cannot be drawn as asked."""


class ModelError(PalError):
    """A model is missing, damaged, or does not fit what it is used for."""


class ServiceError(PalError):
    """The Prefect server or the worker of a workspace cannot be brought up or stopped."""


class StoreError(PalError):
    """The lake, or the files that several machines share, cannot be opened, read or written."""


class DiskError(PalError):
    """The disk is full, must not be written, or has a link that leads nowhere."""


_FULL = re.compile(r"(?i)No space left on device|database or disk is full|Disk quota exceeded|File too large")
_UNSAID, _LEAST_FREE = re.compile(r"(?i)disk I/O error"), 2**20
"""How SQLite words a full disk where it maps its files into memory, and the bytes below which one counts as full."""
_READ_ONLY = re.compile(r"(?i)Read-only file system|readonly database")
_LOOP = re.compile("Symlink loop")
"""How `Path.resolve` words ELOOP, as a RuntimeError before Python 3.13."""
_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_error(error: BaseException, place: str = "") -> DiskError | None:
    """What an error of the system, of SQLite or of DuckDB says about the disk; None where it is of another kind.

    Args:
        place: The file or folder; that of the error itself where it names one.

    >>> print(disk_error(OSError(errno.ENOSPC, "No space left on device", "a.csv")))
    No space left on the disk of a.csv.
    Hint: Free some disk space and run the command again.
    """
    code = error.errno if isinstance(error, OSError) else None
    where = str((isinstance(error, OSError) and error.filename) or place or "the workspace")
    is_full = code in _FULL_CODES or (code is None and _FULL.search(str(error)))
    if not is_full and code is None and _UNSAID.search(str(error)) and place:
        folder = next(path for path in (Path(place), *Path(place).parents) if path.is_dir())
        is_full = shutil.disk_usage(folder).free < _LEAST_FREE
    if is_full:
        return DiskError(f"No space left on the disk of {where}.", "Free some disk space and run the command again.")
    if code == errno.EROFS or (code is None and _READ_ONLY.search(str(error))):
        return DiskError(
            f"{where} is on a read-only disk, or may not be written.",
            "Make it writable, or work on a copy; pal status, pal predict and pal export also work read-only.",
        )
    if code == errno.ELOOP or (code is None and _LOOP.search(str(error))):
        path = str(error).partition(" from ")[2].strip("'\"") if code is None else where
        return DiskError(f"{path} is a symbolic link in a loop.", "Remove the link, or name the file itself.")
    if code in (errno.EACCES, errno.EPERM):
        return DiskError(f"Permission denied: {where}.", "Change its owner or its permissions, or name another path.")
    return None
