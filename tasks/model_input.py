"""A model of the workspace, and what it reads of items: token ids, and beside them characters and sentence vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.lake.codebook import codebook_of
from storage.lake.items import Beside
from tasks.learning.ngrams import CharacterCodes
from tasks.learning.sentences import from_arrow
from tasks.learning.tokens import Tokens
from tasks.project import Project

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel


def open_model(project: Project, model_id: str) -> LoadedModel:
    """A trained model, loaded once; also one for labels that were renamed or merged since.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version.
    """
    from tasks.learning.model_files import load_model  # torch takes seconds to import

    if model_id not in project.models:
        folder, became = project.workspace.model_folder(model_id), codebook_of(project.store).became_after
        project.models[model_id] = load_model(folder, project.label_set.names, became, project.encoders)
    return project.models[model_id]


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
