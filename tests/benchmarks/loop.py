"""The stages of the loop, as the flows run them but without Prefect's start, and the floors they are shown beside.

Each is a function of the benchmark's folder and runs in a process of its own, in this order.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import FEATURES, FILE, PASS, Seconds, timed
from prepared import (
    N_EVALUATION,
    N_TRAINING,
    N_VALIDATION,
    labels_by_words,
    newest_model,
    opened,
    pool_of,
    texts_of,
)

from tasks.project import Project

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel

RUNS = 3


def read_file(folder: Path) -> Seconds:
    """Floor of the import: the same file through Arrow's CSV reader."""
    from pyarrow import csv as arrow_csv

    def read() -> None:
        with arrow_csv.open_csv(texts_of(folder)) as reader:
            for _ in reader:
                pass

    return {FILE: min(timed(read) for _ in range(RUNS))}


def import_texts(folder: Path) -> Seconds:
    """Texts into the lake, each once."""
    from tasks.import_files import DETECT, import_file

    project = opened(folder, scores=False)
    return {"import": timed(lambda: import_file(project, texts_of(folder), DETECT))}


def features(folder: Path) -> Seconds:
    """Token ids of all texts, made once."""
    from tasks.prepare import make_features

    project = opened(folder, scores=False)
    return {"features": timed(lambda: make_features(project))}


def label(folder: Path) -> Seconds:
    """Labels to train and evaluate with; not measured."""
    from storage.lake.annotations import LabelledItem, import_labelled
    from storage.records import Split

    project = opened(folder)
    store, task = project.workspace.store(), project.label_set
    numbers = {Split.EVALUATION: N_EVALUATION, Split.VALIDATION: N_VALIDATION, Split.TRAINING: N_TRAINING}
    rows = store.rows("SELECT item_id, text FROM lake.items ORDER BY item_id LIMIT ?", [sum(numbers.values())])
    labels = labels_by_words([text for _, text in rows])
    items = iter([LabelledItem(row[0], name, "random", None) for row, name in zip(rows, labels, strict=True)])
    for split, n in numbers.items():
        part = list(itertools.islice(items, n))
        import_labelled(store, f"bench-{split.value}", split, part, task.digest, "bench")
    return {}


def one_pass(folder: Path) -> Seconds:
    """Floor of whatever scores: the pool's features from the lake, and one pass of the network over them."""
    from storage.lake.items import pool_features
    from tasks.learning.tokens import Tokens
    from tasks.learning.training import Classifier, predict_logits
    from tasks.prepare import current_encoder

    project = opened(folder)
    store = project.workspace.store()
    encoder = current_encoder(project.workspace, project.config.model.encoder)
    classifier = Classifier(encoder.n_tokens, len(project.label_set.names), vectors=encoder.vectors())
    read, scored = [], []
    for _ in range(RUNS):
        started = time.perf_counter()
        slices = [Tokens.from_arrow(part.column("tokens")) for part in pool_features(store, encoder.encoder_id)]
        tokens = Tokens.joined(slices)
        read.append(time.perf_counter() - started)
        scored.append(timed(lambda tokens=tokens: predict_logits(classifier, tokens)))
    return {FEATURES: min(read), PASS: min(scored)}


def train(folder: Path) -> Seconds:
    """The labels to a model."""
    project = opened(folder)
    return {"train": timed(lambda: newest_model(project))}


def evaluate(folder: Path) -> Seconds:
    """The model's figures on the held-out items, and the promotion gate."""
    from tasks.evaluate import evaluate_model
    from tasks.promote import promote_or_keep

    project = opened(folder)
    model = newest_model(project)
    started = time.perf_counter()
    evaluation = evaluate_model(project, model)
    seconds = time.perf_counter() - started
    promote_or_keep(project, model, evaluation)
    return {"evaluate": seconds}


def score(folder: Path) -> Seconds:
    """The whole pool from the lake, scored."""
    project = opened(folder)
    model = newest_model(project)
    return {"score": timed(lambda: pool_of(project, model))}


def publish(folder: Path) -> Seconds:
    """The files of a batch of 100; drawing it is not measured here."""
    from tasks.sample import publish_batches

    project = opened(folder)
    _sample(project, newest_model(project))
    return {"publish": timed(lambda: publish_batches(project))}


def ingest(folder: Path) -> Seconds:
    """The batch's CSV file, filled in by a simulated annotator, into the lake: the ingest flow's stages."""
    from annotation.batch import batch_files
    from annotation.synthetic import fill_csv
    from storage.lake.batches import items_of, open_batches
    from tasks.collect import collect_answers
    from tasks.sample import publish_batches

    project = opened(folder, scores=False)
    workspace = project.workspace
    batch = open_batches(workspace.store())[0].batch
    asked = items_of(workspace.store(), batch.batch_id)
    answers = dict(zip([each.item_id for each in asked], labels_by_words([each.text for each in asked]), strict=True))
    files = workspace.batches / batch.batch_id
    for handout in batch_files(files):
        if handout.format == "csv":
            fill_csv(files / handout.file, answers)
    started = time.perf_counter()
    publish_batches(project)
    reports = collect_answers(project)
    seconds = time.perf_counter() - started
    assert sum(report.n_new for report in reports) == batch.n
    return {"ingest": seconds}


def iteration(folder: Path) -> Seconds:
    """The next-batch flow's stages one after the other: train, evaluate, promote, sample, publish."""
    from tasks.evaluate import evaluate_model
    from tasks.promote import promote_or_keep
    from tasks.sample import publish_batches

    project = opened(folder)
    started = time.perf_counter()
    model = newest_model(project)
    promote_or_keep(project, model, evaluate_model(project, model))
    _sample(project, model)
    publish_batches(project)
    return {"whole iteration": time.perf_counter() - started}


def predict(folder: Path, form: str) -> Seconds:
    """Every item with its label and probability into a file."""
    from tasks.predict_pool import predict_pool

    project = opened(folder)
    return {f"predict all, {form}": timed(lambda: predict_pool(project, folder / f"all.{form}", form))}


def report(folder: Path) -> Seconds:
    """The report's page."""
    from tasks.report import report_of, write_page

    project = opened(folder, scores=False)
    return {"report": timed(lambda: write_page(report_of(project), folder / "report.html"))}


def _sample(project: Project, model: LoadedModel) -> None:
    """Draw a batch by the mix of pal.toml."""
    from tasks.plan import plan_next_batch
    from tasks.sample import sample_batch

    sample_batch(project, plan_next_batch(project), model, beside_open=True)
