"""How well an encoder's tokenizer covers the language of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.learning.encoders import StaticVectors
from tasks.learning.tokens import Tokens

MOST_FRAGMENTS = 0.3
"""Per letter: eight sets of English texts (headlines, questions, abstracts) have .21 to .26; some sentences of German,
French and Spanish .37 to .39, of Finnish and Turkish .44 to .48, of Russian and Arabic .97; Chinese reviews 4.0."""

LETTERS_OF_UNKNOWN = 5
"""A word that the tokenizer does not know at all counts as so many fragments."""


def fragments_per_letter(encoder: StaticVectors, texts: Sequence[str], tokens: Tokens) -> float:
    """Into how many fragments the tokenizer cuts a letter's worth of text; 0 for texts without letters.

    Args:
        texts: n texts.
        tokens: The same texts.
    """
    letters = sum(map(str.isalnum, "".join(texts)))
    counts = np.where(encoder.pieces().left_out, 0, 1)
    if encoder.unknown is not None:
        counts[encoder.unknown] = LETTERS_OF_UNKNOWN
    return float(counts[tokens.ids].sum() / max(letters, 1))
