"""A tokenizer trained on the pool, and initial token vectors, for a teacher of another language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tasks.learning.tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "[UNK]"
VOCABULARY = 30_000
"""Size of the vocabulary, about that of the shipped encoder."""

MOST_CHARACTERS = 8_000
"""Maximum number of characters in the alphabet; rarer ones are unknown. Chinese newspapers use about 6,000."""

LEAST_COUNT = 3
"""Minimum number of occurrences of a piece in the pool."""

LONGEST_WORD = 100
"""Maximum length of a word in characters; longer ones are unknown. Without spaces, a clause is a word."""

WIDTH = 256
SHRINKAGE = 3.0
"""Weight of the mean vector, as a number of texts, in the initial vector of a token."""

Floats = npt.NDArray[np.float32]


def pool_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """A WordPiece tokenizer whose tokens are the frequent words and pieces of these texts; the same for the same texts.

    Left alone, the trainer numbers the characters within words in random order, which decides between pieces that are
    equally frequent; as special tokens they have their numbers beforehand.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(handle_chinese_chars=False, strip_accents=False)
    counts = Counter(character for text in texts for character in normalizer.normalize_str(text))
    alphabet = sorted(counts, key=lambda character: (-counts[character], character))[:MOST_CHARACTERS]
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        min_frequency=LEAST_COUNT,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        special_tokens=[UNKNOWN, *(f"##{character}" for character in alphabet)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    plain = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    plain.normalizer, plain.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    return plain


def first_vectors(tokens: Tokens, n_tokens: int, targets: npt.NDArray[np.float16]) -> Floats:
    """Vectors (n_tokens, d) to begin with: the mean sentence vector of the texts that a token is in.

    Args:
        tokens: Of n texts.
        targets: Their sentence vectors, (n, width); of their principal components the first 256 at most are kept.
    """
    centered = targets.astype(np.float32)
    centered -= centered.mean(axis=0)
    _, components = np.linalg.eigh(centered.T @ centered)
    projected = centered @ components[:, : -WIDTH - 1 : -1]
    ones = np.ones(len(tokens.ids), np.float32)
    bags = sparse.csr_matrix((ones, tokens.ids.astype(np.int64), tokens.offsets), (len(tokens), n_tokens))
    bags.sum_duplicates()
    bags.data[:] = 1
    return np.asarray((bags.T @ projected) / (bags.sum(axis=0).T + SHRINKAGE), np.float32)
