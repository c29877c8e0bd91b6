"""The kinds of values that flows take: what the forms of the Prefect UI offer and refuse.

A field with a value that stands for "as in pal.toml" makes a plainer form than one that may be None.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

FormatName = Literal["csv", "xlsx", "html", "label-studio", "argilla", "doccano", "prodigy", "original"]
"""A format of batch files, as in `annotation.formats.registry`."""

KnownFormat = Literal["by content", "csv", "xlsx", "html", "label-studio", "argilla", "doccano", "prodigy", "original"]
"""The format of filled files; it is told by their content where nobody says."""

Size = Annotated[int, Field(ge=0)]
"""A number of items; 0 for that of pal.toml."""

Count = Annotated[int, Field(ge=1)]
"""A number of things, of which there must be one."""

Seed = Annotated[int, Field(ge=0)]
"""A seed of a draw."""

EncoderName = Literal["minilm-static", "bag-of-words"]
"""An encoder that ships with the package, as in `tasks.learning.encoders`."""
