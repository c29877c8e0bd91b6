"""How well an encoder's tokenizer covers the language of texts."""

from __future__ import annotations

import numpy as np

from tasks.learning.encoders import WordPieces
from tasks.learning.tokens import Tokens

MOST_FRAGMENTS = 0.3
"""Per letter: eight sets of English texts (headlines, questions, abstracts) have .21 to .26; some sentences of German,
French and Spanish .37 to .39, of Finnish and Turkish .44 to .48, of Russian and Arabic .97; Chinese reviews 4.0."""

FRAGMENTS_WITHOUT_WORDS = 0.6
"""Per letter: from here on tokens are mere letters. English with emoji, addresses and tags has .38 to .40."""

LETTERS_OF_UNKNOWN = 5
"""Number of fragments that an unknown word counts as."""


def fragments_per_letter(encoder: WordPieces, n_letters: int, tokens: Tokens) -> float:
    """Into how many fragments the tokenizer cuts a letter's worth of text; 0 for texts without letters.

    Also 0 for a tokenizer that was made from such texts. At least the share of unknown words: in a script without spaces
    one of them can be a whole sentence.

    Args:
        n_letters: Letters and digits of the texts.
        tokens: The texts.
    """
    if encoder.from_pool:
        return 0.0
    counts, unknown = np.where(encoder.pieces().left_out, 0, 1)[tokens.ids], tokens.ids == encoder.unknown
    counts[unknown] = 1
    share_unknown = float(unknown.sum() / max(counts.sum(), 1))
    counts[unknown] = LETTERS_OF_UNKNOWN
    return max(share_unknown, float(counts.sum() / max(n_letters, 1)))
