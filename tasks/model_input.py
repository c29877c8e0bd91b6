"""What a model reads of the items of a lake: token ids, and beside them characters and sentence vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.lake.items import Beside
from tasks.learning.ngrams import CharacterCodes
from tasks.learning.sentences import from_arrow
from tasks.learning.tokens import Tokens

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel


def beside_tokens(model: LoadedModel | None) -> Beside:
    """What a model reads of an item beside its tokens."""
    if model is None:
        return Beside()
    return Beside(model.classifier.reads_characters, model.sentence_encoder_id or "")


def tokens_in(rows: pa.RecordBatch, codes: CharacterCodes | None) -> Tokens:
    """Rows (tokens, text, sentence, the last two where they are there) as a model reads them."""
    tokens = Tokens.from_arrow(rows.column("tokens"))
    if codes is not None:
        tokens = replace(tokens, characters=codes.of(rows.column("text")))
    if "sentence" in rows.schema.names:
        tokens = replace(tokens, sentences=from_arrow(rows.column("sentence")))
    return tokens
