"""The names of encoders, as pal.toml has them; apart from the encoders, so that reading pal.toml imports none."""

from __future__ import annotations

MINILM_STATIC = "minilm-static"
MINILM_ADAPTED = "minilm-adapted"
BAG_OF_WORDS = "bag-of-words"
ENCODERS = (MINILM_STATIC, MINILM_ADAPTED, BAG_OF_WORDS)
SHIPPED = (MINILM_STATIC, BAG_OF_WORDS)
"""Those that need nothing of a workspace."""
