"""Every error a user can meet: what happened, with the values, then what to type.

PalError
├── ConfigError        pal.toml says something that cannot be
├── WorkspaceError     no workspace here, or one that cannot be used
├── SourceError        a file of texts to import cannot be read
├── BatchError         a batch or a batch file is not what it should be
├── SamplingError      a batch cannot be drawn as asked
├── ModelError         a model is missing, damaged, or does not fit
├── ServiceError       the server or the worker cannot be brought up or stopped
└── StoreError         the lake, or the files that machines share, cannot be opened, read or written
"""

from __future__ import annotations


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
