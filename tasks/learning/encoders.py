"""Encoders: texts to token ids; pretrained encoders also have a vector per token, in int8 files with a manifest.

`fragments_per_letter` measures how well an encoder's tokenizer covers the language of texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError, WorkspaceError
from storage.files.folders import inside, read_object
from tasks.learning.tokens import MAX_TOKENS, Tokens, ragged_take

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

MINILM_STATIC = "minilm-static"
MINILM_ADAPTED = "minilm-adapted"
BAG_OF_WORDS = "bag-of-words"
SHIPPED = (MINILM_STATIC, BAG_OF_WORDS)
"""Encoders that do not depend on a workspace."""
ARTEFACT = Path(__file__).parent / "minilm_static"
MIN_WORD_COUNT = 3
KEPT_WORDS = 262_144
"""Maximum number of words whose pieces are cached: most words of a slice occur in the one before."""


class Encoder(Protocol):
    """The interface of an encoder.

    Attributes:
        encoder_id: Its name and the hash of its content; features and models are tied to it.
        n_tokens: Ids are 0 to n_tokens - 1.
    """

    @property
    def encoder_id(self) -> str: ...  # noqa: D102

    @property
    def n_tokens(self) -> int: ...  # noqa: D102

    def tokenize(self, texts: pa.Array) -> Tokens:
        """Token ids of a string array (n,)."""
        ...

    def tokenize_few(self, texts: Sequence[str]) -> Tokens:
        """The same ids, for so few texts that importing Arrow would take longer."""
        ...

    def vectors(self) -> npt.NDArray[np.float32] | None:
        """One vector per token, (n_tokens, d); None if the model learns them."""
        ...

    def pieces(self) -> Pieces:
        """How tokens form words."""
        ...


@dataclass(frozen=True)
class Pieces:
    """How tokens form words.

    Attributes:
        continues: Whether a token continues a word, (n_tokens,).
        left_out: Whether it stands for no word by itself: punctuation, and a single letter or digit of ASCII,
            (n_tokens,).
    """

    continues: npt.NDArray[np.bool_]
    left_out: npt.NDArray[np.bool_]


class WordPieces:
    """WordPiece tokens.

    Args:
        tokenizer: A tokenizer that never joins words separated by white space.

    Attributes:
        from_pool: Whether it was made from a pool, and so covers its language.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, npt.NDArray[np.uint16]] = {}
        self.n_tokens = int(tokenizer.get_vocab_size())
        self.unknown: int | None = tokenizer.token_to_id("[UNK]")
        self.from_pool = True

    def tokenize(self, texts: pa.Array) -> Tokens:
        """WordPiece ids of a string array (n,): each distinct word is split once, then looked up.

        The ids are those of the tokenizer for whole texts, except that control characters that count as white space
        (0x0b, 0x0c, 0x1c-0x1f, 0x85) separate words; the tokenizer would drop them and join the words.
        """
        encoded, starts = _distinct_words(texts)
        pieces = self._pieces(encoded.dictionary.to_pylist())
        offsets = np.cumsum([0, *map(len, pieces)])
        words = Tokens(np.concatenate([np.zeros(0, np.uint16), *pieces]), offsets)
        flat = ragged_take(words, encoded.indices.to_numpy().astype(np.int64))
        return Tokens(flat.ids, flat.offsets[starts])

    def tokenize_few(self, texts: Sequence[str]) -> Tokens:
        """The same ids, for so few texts that importing Arrow would take longer."""
        pieces = [self._pieces(text.split()) for text in texts]
        lengths = [sum(map(len, words)) for words in pieces]
        ids = np.concatenate([np.zeros(0, np.uint16), *(piece for words in pieces for piece in words)])
        return Tokens(ids, np.cumsum([0, *lengths]))

    def _pieces(self, words: list[str]) -> list[npt.NDArray[np.uint16]]:
        """The ids of each word."""
        ids_of = self._known if len(self._known) < KEPT_WORDS else {}
        new = [word for word in dict.fromkeys(words) if word not in ids_of]
        cut = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        ids_of.update((word, np.array(encoding.ids, np.uint16)) for word, encoding in zip(new, cut, strict=True))
        self._known = ids_of
        return [ids_of[word] for word in words]

    def pieces(self) -> Pieces:
        """How tokens form words."""
        continues, left_out = np.zeros(self.n_tokens, np.bool_), np.zeros(self.n_tokens, np.bool_)
        for token, number in self._tokenizer.get_vocab().items():
            continues[number] = token.startswith("##")
            left_out[number] = not any(map(str.isalnum, token)) or (len(token) == 1 and token.isascii())
        return Pieces(continues, left_out)


class StaticVectors(WordPieces):
    """WordPiece tokens and int8 vectors distilled from a sentence encoder, as `encoder_files` writes them.

    `minilm-static` ships with the package; `minilm-adapted` is distilled from the texts of a workspace.

    Args:
        folder: Where the files lie.

    Raises:
        ModelError: A file does not match the manifest.
    """

    def __init__(self, folder: Path = ARTEFACT) -> None:
        from tokenizers import Tokenizer  # a quarter of a second that `pal --help` does not need

        manifest = read_manifest(folder)
        for name, expected in manifest["sha256"].items():
            path = folder / name
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            if sha256 != expected:
                hint = "the installation is damaged: pip install --force-reinstall pytorch-active-learning"
                raise ModelError(
                    f"{path} has sha256 {sha256}; its manifest says {expected}.",
                    hint=hint
                    if manifest["name"] == MINILM_STATIC
                    else f"restore the file, or remove {folder} and run: pal adapt",
                )
        self._folder, self._manifest = folder, manifest
        super().__init__(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self.from_pool = bool(manifest.get("tokenizer_from_pool"))
        self.encoder_id = id_in(manifest)

    def vectors(self) -> npt.NDArray[np.float32]:
        """The vectors as float32 (n_tokens, d); `minilm-static` has (29525, 256)."""
        return self._vectors

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float32]:
        rounded, scale = self.rounded_vectors()
        return rounded.astype(np.float32) * scale

    def __reduce__(self) -> tuple[type[StaticVectors], tuple[Path]]:
        """Pickle the path only: another process reads the files again."""
        return StaticVectors, (self._folder,)

    def rounded_vectors(self) -> tuple[npt.NDArray[np.int8], np.float32]:
        """The vectors as stored, int8 (n_tokens, d), and the factor that converts them to float32."""
        from safetensors.numpy import load_file

        tensors = load_file(self._folder / "vectors.safetensors")
        return tensors["vectors"], np.float32(tensors["scale"])

    def taught_head(self, labels: Sequence[str]) -> HeadWeights | None:
        """The head distilled from the sentence encoder while adapting; None if there is none for these labels."""
        from safetensors.numpy import load_file

        if list(labels) != self._manifest.get("labels"):
            return None
        return HeadWeights(**load_file(self._folder / "head.safetensors"), n_labelled=self._manifest["n_labelled"])


@dataclass(frozen=True)
class BagOfWords:
    """The tokens of the original: lower-case words separated by white space, if they are in the vocabulary."""

    words: tuple[str, ...]

    @property
    def encoder_id(self) -> str:
        """Name and hash of the vocabulary."""
        digest = hashlib.sha256("\n".join(self.words).encode()).hexdigest()
        return f"{BAG_OF_WORDS}:{digest[:12]}"

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.words)

    def tokenize(self, texts: pa.Array) -> Tokens:
        """Vocabulary ids of a string array (n,), in the order of the words."""
        import pyarrow as pa
        import pyarrow.compute as pc

        encoded, starts = _distinct_words(pc.utf8_lower(texts))
        ids = pc.index_in(encoded.dictionary, pa.array(self.words, pa.string()))
        word_ids = pc.fill_null(ids, -1).to_numpy(zero_copy_only=False)[encoded.indices.to_numpy()]
        is_known = word_ids >= 0
        before = np.concatenate([[0], np.cumsum(is_known)])
        return Tokens(word_ids[is_known].astype(np.uint16), before[starts])

    def tokenize_few(self, texts: Sequence[str]) -> Tokens:
        """The same ids, for so few texts that importing Arrow would take longer."""
        if not all(text.isascii() for text in texts):  # Python and Arrow lower other letters differently
            import pyarrow as pa

            return self.tokenize(pa.array(texts, pa.string()))
        numbers = {word: k for k, word in enumerate(self.words)}
        ids = [[numbers[word] for word in text.lower().split() if word in numbers] for text in texts]
        flat = np.array([number for of_text in ids for number in of_text], np.uint16)
        return Tokens(flat, np.cumsum([0, *map(len, ids)]))

    def vectors(self) -> None:
        """None, since the model learns them."""
        return

    def pieces(self) -> Pieces:
        """Each token is a word."""
        none = np.zeros(self.n_tokens, np.bool_)
        return Pieces(none, none)


def fit_bag_of_words(slices: Iterable[pa.Array]) -> BagOfWords:
    """Count the words of texts: those with at least 3 occurrences, the most frequent first, at most 65,535.

    Args:
        slices: String arrays, read once, one at a time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    counts: pa.Table | None = None
    for texts in slices:
        words = pa.table({"word": _distinct_words(pc.utf8_lower(texts))[0].dictionary_decode()})
        new = words.group_by("word").aggregate([([], "count_all")]).rename_columns(["word", "n"])
        both = pa.concat_tables([counts, new]) if counts is not None else new
        counts = both.group_by("word").aggregate([("n", "sum")]).rename_columns(["word", "n"])
    if counts is None:
        return BagOfWords(())
    frequent = counts.filter(pc.and_(pc.greater_equal(counts["n"], MIN_WORD_COUNT), pc.not_equal(counts["word"], "")))
    ordered = frequent.sort_by([("n", "descending"), ("word", "ascending")])
    return BagOfWords(tuple(ordered["word"].to_pylist()[:MAX_TOKENS]))


class Encoders:
    """The encoders of a workspace; each is read once.

    Args:
        folder: The folder of its adapted encoders; None for only the shipped one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[Path, StaticVectors] = {}

    def shipped(self) -> StaticVectors:
        """The encoder that ships with the package."""
        return self._at(ARTEFACT)

    def newest_adapted(self) -> StaticVectors:
        """The encoder that was adapted last.

        Raises:
            ModelError: There is none.
        """
        newest = max(self._adapted(), key=lambda pair: (pair[1]["created_at"], pair[0].name), default=None)
        if newest is None:
            raise ModelError(
                f'encoder = "{MINILM_ADAPTED}", but no encoder was adapted yet: {self._folder} is empty.',
                hint=f"Make one from this workspace's texts (pal adapt), or set "
                f'encoder = "{MINILM_STATIC}" in pal.toml',
            )
        return self._at(newest[0])

    def of(self, encoder_id: str, words: Sequence[str] | None) -> Encoder:
        """The encoder with an id.

        Args:
            words: The vocabulary stored with a bag-of-words id in a model or in the lake.

        Raises:
            ModelError: This installation has no such encoder, or another version of it.
        """
        if encoder_id.startswith(f"{MINILM_ADAPTED}:"):
            for folder, manifest in self._adapted():
                if id_in(manifest) == encoder_id:
                    return self._at(folder)
            raise ModelError(
                f"It was made with encoder {encoder_id!r}, which is not in {self._folder}.",
                hint="Restore that folder, or adapt again and train: pal adapt, then pal next",
            )
        here: Encoder = BagOfWords(tuple(words)) if words is not None else self.shipped()
        if here.encoder_id != encoder_id:
            raise ModelError(
                f"It was made with encoder {encoder_id!r}; this installation has {here.encoder_id!r}.",
                hint="Train again with the present encoder: pal next",
            )
        return here

    def _at(self, folder: Path) -> StaticVectors:
        if folder not in self._read:
            self._read[folder] = StaticVectors(folder)
        return self._read[folder]

    def _adapted(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The folders that have a manifest, with the manifest."""
        for path in sorted(self._folder.glob("*/manifest.json")) if self._folder is not None else ():
            if not path.parent.name.startswith("."):
                yield path.parent, read_manifest(path.parent)


def _distinct_words(texts: pa.Array) -> tuple[pa.DictionaryArray, npt.NDArray[np.int64]]:
    """All words, dictionary encoded (number of words,), and the start of each text (n + 1,)."""
    import pyarrow.compute as pc

    # Arrow reads beyond the end of a text that ends in white space, and sometimes loses its last word.
    listed = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))
    starts = listed.offsets.to_numpy().astype(np.int64)
    return listed.flatten().dictionary_encode(), starts - starts[0]


@dataclass(frozen=True)
class HeadWeights:
    """A linear head: weight (n_labels, d), bias (n_labels,), both float32; and its number of labeled texts."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    n_labelled: int = 0


def quantise(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round vectors to int8 with one scale for all.

    Returns:
        int8 (tokens, dimensions) in -127..127, and the scale, float32 of shape (): int8 * scale is about `vectors`.

    >>> quantise(np.array([[0.5, -1.27], [0.0, 0.104]], dtype=np.float32))[0].tolist()
    [[50, -127], [0, 10]]
    """
    scale = np.float32(np.abs(vectors).max() / 127)
    return np.rint(vectors / scale).astype(np.int8), np.array(scale)


def encoder_files(
    vectors: npt.NDArray[np.float32], tokenizer: bytes, facts: dict[str, Any], head: HeadWeights | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, and the manifest with their hashes.

    Args:
        vectors: (tokens, dimensions), row i for token id i.
        tokenizer: Its JSON.
        facts: What else the manifest says; `name` is the encoder's, `labels` are the head's.
        head: A linear head on the text vectors, where there is one.
    """
    from safetensors.numpy import save

    rounded, scale = quantise(vectors)
    files = {"vectors.safetensors": save({"vectors": rounded, "scale": scale}), "tokenizer.json": tokenizer}
    if head is not None:
        files["head.safetensors"] = save({"weight": head.weight, "bias": head.bias})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files, {**facts, "sha256": hashes}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an encoder.

    Raises:
        ModelError: It is damaged.
    """
    path = folder / "manifest.json"
    try:
        manifest = read_object(path)
        id_in(manifest)
        for name in manifest["sha256"]:
            inside(folder, name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, WorkspaceError) as error:
        raise ModelError(
            f"{path} is damaged: {error}.",
            hint=f"Restore it from a backup, or remove {folder} and make it again: pal adapt; see pal check",
        ) from error
    return manifest


def id_in(manifest: dict[str, Any]) -> str:
    """The encoder_id of a manifest: its name, and a hash of the hashes of its files."""
    digest = hashlib.sha256("".join(sorted(manifest["sha256"].values())).encode()).hexdigest()
    return f"{manifest['name']}:{digest[:12]}"


MOST_FRAGMENTS = 0.3
"""Per letter: eight sets of English texts (headlines, questions, abstracts) have .21 to .26; some sentences of German,
French and Spanish .37 to .39, of Finnish and Turkish .44 to .48, of Russian and Arabic .97; Chinese reviews 4.0."""

FRAGMENTS_WITHOUT_WORDS = 0.6
"""Per letter: from here on tokens are mere letters. English with emoji, addresses and tags has .38 to .40."""

LETTERS_OF_UNKNOWN = 5
"""Number of fragments that an unknown word counts as."""


def fragments_per_letter(encoder: WordPieces, n_letters: int, tokens: Tokens) -> float:
    """Into how many fragments the tokenizer cuts a letter's worth of text; 0 for texts without letters.

    Also 0 for a tokenizer that was made from such texts. At least the share of unknown words, since in a script without
    spaces one of them can be a whole sentence.

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
