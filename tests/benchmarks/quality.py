"""Model quality on labelled texts of any kind, beside textbook baselines and along active learning.

    python tests/benchmarks/quality.py DATA_DIR --json FILE [--labels 100 300 1000] [--seeds 3] [--only NAME ...]
        [--rivals] [--sentence] [--active] [--abc FOLDER [--against FILE]]

DATA_DIR has NAME.train.csv and NAME.test.csv with the columns text and label. Each cell (data, labels, seed) labels the
same random training texts for every method. `pal` imports all training texts into a workspace, labels these, and
trains by the stage `train_model`. Of two labels the rarer one is positive. Test files are only scored, and texts that
also occur in a test file are left out of the training texts.

FILE gets a list of rows `data, labels, seed, method, accuracy, macro_f1, ap, ece, fit_s, score_s`, rewritten after
each row. `macro_f1` and `ap` (one against the rest) are means over the labels in the test file; with two labels `ap` is
that of the rarer one. `ece` is of the most probable label, in 15 bins of equally many items. `fit_s` and `score_s` are
CPU seconds of this process to train and to score the test file, without making sentence vectors.

`--rivals` adds the baselines of `baselines.py`, `--sentence` sentence vectors: `pal-sentence` and `minilm`.
`--active` replaces the cells by replays of the loop to the largest of `--labels`: 100 random items, then batches of
100 by the default mix (`pal-active`) or at random (`pal-random`), all used for training; there `fit_s` and `score_s`
are seconds to train and score, and to choose the batch. `--abc` trains on the original's training items in FOLDER and
compares the AP on its evaluation items with a FILE of an earlier run by a paired bootstrap.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from baselines import RIVALS, SENTENCE, Baselines
from sklearn.metrics import average_precision_score, f1_score

from storage.errors import ModelError
from storage.lake.annotations import LabelledItem, import_labelled
from storage.readers.opening import read_labelled
from storage.records import Split
from tasks.config.settings import Config, ModelConfig, TaskConfig
from tasks.config.template import DISASTER, config_text, named_labels
from tasks.evaluate import predict_held_out
from tasks.import_files import DETECT, import_file, import_original_directory
from tasks.learning.encoders import MINILM_STATIC
from tasks.learning.promotion import Scored, compare
from tasks.learning.sentences import SentenceEncoder, SentenceRows
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.sentence_vectors import make_sentence_vectors
from tasks.simulation.experiment import Curve
from tasks.simulation.replay import Replay, replay
from tasks.simulation.replays import Experiment, material
from tasks.train import train_model

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
PAL, PAL_SENTENCE, ACTIVE, RANDOM = "pal", "pal-sentence", "pal-active", "pal-random"
N_BINS = 15
MARGIN = 0.02
"""A mean that is lower by no more than this, or by two paired standard errors, counts as level."""


@dataclass(frozen=True)
class Data:
    """One data set: texts and label numbers. `rarer` is the rarer of two labels in the training file, else None."""

    name: str
    files: tuple[Path, Path]
    labels: tuple[str, ...]
    train: tuple[list[str], Positions]
    test: tuple[list[str], Positions]

    @property
    def rarer(self) -> int | None:
        return int(np.bincount(self.train[1]).argmin()) if len(self.labels) == 2 else None

    @cached_property
    def test_sentences(self) -> SentenceRows:
        return SentenceEncoder().encode(self.test[0])

    def drawn(self, n: int, seed: int) -> Positions:
        """Positions of n random training texts; where all have one label, the last gives way to the next of another."""
        labels, order = self.train[1], np.random.default_rng(seed).permutation(len(self.train[1]))
        others = np.flatnonzero(labels[order] != labels[order[0]])
        return np.append(order[: n - 1], order[max(n - 1, others[0])])


@dataclass(frozen=True)
class Row:
    """One method in one cell; `scores` and `truth` of the positive label where a later run compares with them."""

    data: str
    labels: int
    seed: int
    method: str
    accuracy: float
    macro_f1: float
    ap: float
    ece: float
    fit_s: float
    score_s: float
    scores: list[float] = field(default_factory=list)
    truth: list[bool] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {name: value for name, value in asdict(self).items() if value != []}


@dataclass(frozen=True)
class Answer:
    """What a method says of the test texts: probabilities (n, n_labels) and decisions (n,), and its CPU seconds."""

    probabilities: Floats
    decisions: Positions
    fit_s: float
    score_s: float

    def metrics(self, truth: Positions, rarer: int | None) -> dict[str, float]:
        """The metrics of a row."""
        present = np.unique(truth)
        ranked = present if rarer is None else [rarer]
        return {
            "accuracy": float(np.mean(self.decisions == truth)),
            "macro_f1": float(f1_score(truth, self.decisions, labels=present, average="macro", zero_division=0)),
            "ap": float(np.mean([average_precision_score(truth == k, self.probabilities[:, k]) for k in ranked])),
            "ece": calibration_error(self.probabilities, truth),
            "fit_s": round(self.fit_s, 3),
            "score_s": round(self.score_s, 3),
        }


def calibration_error(probabilities: Floats, truth: Positions) -> float:
    """Expected calibration error of the most probable label, in 15 bins of equally many items.

    >>> calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]))
    0.5
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    order = np.argsort(confidence, kind="stable")
    bins = [part for part in np.array_split(order, N_BINS) if len(part)]
    return float(sum(abs(float(np.sum(right[part] - confidence[part]))) for part in bins) / len(truth))


def read(folder: Path, only: Sequence[str]) -> Iterator[Data]:
    """The data sets of a folder, by name."""
    for file in sorted(folder.glob("*.train.csv")):
        name = file.name.removesuffix(".train.csv")
        if only and name not in only:
            continue
        files = file, folder / f"{name}.test.csv"
        train, test = (read_labelled(each, "text", "label").table for each in files)
        names = tuple(sorted(set(train["label"].to_pylist())))
        train = train.filter(pc.invert(pc.is_in(train["folded"], test["folded"].combine_chunks())))
        known = test.filter(pc.is_in(test["label"], pa.array(names)))
        if unknown := test.num_rows - known.num_rows:
            print(f"{name}: left out {unknown} test texts whose labels {file.name} has not.", file=sys.stderr)
        parts = [
            (part["text"].to_pylist(), np.array(list(map(names.index, part["label"].to_pylist()))))
            for part in (train, known)
        ]
        yield Data(name, files, names, *parts)


def cells(data: Data, chosen: argparse.Namespace) -> Iterator[Row]:
    """Every method on every random draw of labelled items."""
    baselines, truth = Baselines(), data.test[1]
    methods: dict[str, Callable[[Positions], Answer]] = {}
    with tempfile.TemporaryDirectory(prefix="pal-quality-") as scratch:
        for name in (PAL, PAL_SENTENCE) if chosen.sentence else (PAL,):
            methods[name] = partial(by_pal, pool_workspace(Path(scratch) / name, data, name), data)
        for name in (*(RIVALS if chosen.rivals else ()), *((SENTENCE,) if chosen.sentence else ())):
            methods[name] = partial(by_baseline, baselines, name, data)
        for n in chosen.labels:
            for seed in range(chosen.seeds):
                positions = data.drawn(min(n, len(data.train[1])), seed)
                for name, method in list(methods.items()):
                    try:
                        answer = method(positions)
                    except ModelError as error:
                        if name != SENTENCE:
                            raise
                        print(f"{name} skipped: {error}", file=sys.stderr)
                        del methods[name]
                        continue
                    yield Row(data.name, n, seed, name, **answer.metrics(truth, data.rarer))


def by_baseline(baselines: Baselines, method: str, data: Data, positions: Positions) -> Answer:
    """A baseline trained on some training texts."""
    texts, labels = data.train
    training = [texts[k] for k in positions]
    found = baselines.probabilities(method, training, labels[positions], data.test[0], len(data.labels))
    return Answer(found[0], found[0].argmax(axis=1), *found[1:])


def pool_workspace(root: Path, data: Data, method: str) -> Path:
    """A workspace whose pool is the training texts, with their features; item ids are positions."""
    root.mkdir()
    positive = None if data.rarer is None else data.labels[data.rarer]
    model = ModelConfig(sentence="auto" if method == PAL_SENTENCE else "off")
    task = TaskConfig.of(named_labels(data.labels, positive, None))
    (root / "pal.toml").write_text(config_text(Config(task=task, model=model)), encoding="utf-8")
    source = root / "texts.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(data.train[0])])
    project = open_project(root)
    import_file(project, source, DETECT)
    make_features(project)
    make_sentence_vectors(project)
    project.workspace.store().close()
    return root


def by_pal(pool: Path, data: Data, positions: Positions) -> Answer:
    """pal's model of some training texts: a copy of the workspace, labels, and the stage that trains."""
    with tempfile.TemporaryDirectory(prefix="pal-quality-") as scratch:
        project = open_project(shutil.copytree(pool, Path(scratch) / "workspace"))
        labelled = [LabelledItem(str(k), data.labels[data.train[1][k]], "random", None) for k in positions]
        store = project.workspace.store()
        assert import_labelled(store, "drawn", Split.TRAINING, labelled, project.label_set.digest, "") == len(positions)
        started = time.process_time()
        model = train_model(project)
        fitted = time.process_time()
        sentences = data.test_sentences if model.classifier.reads_sentences else None
        read = time.process_time()
        probabilities = model.predict(data.test[0], sentences)
        answer = Answer(
            probabilities.astype(np.float64),
            model.calibration.decisions(probabilities),
            fitted - started,
            time.process_time() - read,
        )
        store.close()
        return answer


def replays(data: Data, chosen: argparse.Namespace) -> Iterator[Row]:
    """The loop under the default mix and at random, from the same start under each seed."""
    config = Config(task=TaskConfig.of(named_labels(data.labels, None, None)))
    mixes = {ACTIVE: config.sampling.active, RANDOM: {"random": 1.0}}
    on = material(Experiment(str(data.files[0]), mixes, "text", "label", str(data.files[1])), MINILM_STATIC)
    truth = on.held_out.labels
    for seed in range(chosen.seeds):
        how = Replay(100, 100, max(0, max(chosen.labels) // 100 - 1), seed)
        for name, mix in mixes.items():
            for step in replay(on, mix, how):
                answer = Answer(step.probabilities.astype(np.float64), step.decisions, *step.seconds)
                yield Row(data.name, step.n_asked, seed, name, **answer.metrics(truth, data.rarer))


def on_headlines(folder: Path) -> Iterator[Row]:
    """The model of the original's training items, on its evaluation items."""
    with tempfile.TemporaryDirectory(prefix="pal-quality-") as scratch:
        root = Path(scratch)
        (root / "pal.toml").write_text(config_text(Config(task=TaskConfig.of(DISASTER))), encoding="utf-8")
        project = open_project(root)
        import_original_directory(project, folder)
        make_features(project)
        yield headlines_row(project)


def headlines_row(project: Project) -> Row:
    """Train, and score the evaluation items."""
    store, positive = project.workspace.store(), DISASTER.names.index(DISASTER.positive or "")
    started = time.process_time()
    model = train_model(project)
    fitted = time.process_time()
    held_out = predict_held_out(store, model, store.version())
    answer = Answer(
        held_out.probabilities.astype(np.float64),
        model.calibration.decisions(held_out.probabilities),
        fitted - started,
        time.process_time() - fitted,
    )
    scores, truth = answer.probabilities[:, positive].tolist(), (held_out.labels == positive).tolist()
    n = store.rows("SELECT n_training FROM lake.models WHERE model_id = ?", [model.model_id])[0][0]
    return Row("abc", n, 0, PAL, **answer.metrics(held_out.labels, positive), scores=scores, truth=truth)


def against(row: Row, earlier: Path) -> str:
    """The AP beside that of an earlier run, and the paired 95 % interval of the difference."""
    before = next(each for each in json.loads(earlier.read_text(encoding="utf-8")) if each["data"] == row.data)
    truth = np.array(row.truth)
    now, then = (Scored(np.array(scores), truth) for scores in (row.scores, before["scores"]))
    found = compare([now], [then], [truth], "ap", margin=0.0)
    assert found is not None
    return f"abc: AP {found.candidate:.3f}, before {found.production:.3f}: [{found.low:+.3f}, {found.high:+.3f}]"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Means over the seeds by data and number of labels; `<` marks a method of pal that is below its best rival."""
    methods = list(dict.fromkeys(row.method for row in rows))
    for metric in ("ap", "accuracy", "macro_f1", "ece", "fit_s"):
        yield f"\n| {metric} | labels | {' | '.join(methods)} |\n|---|---|{'---|' * len(methods)}"
        for data, n in dict.fromkeys((row.data, row.labels) for row in rows):
            values = {name: seeds_of(rows, (data, n, name), metric) for name in methods}
            marks = {name: " <" if metric == "ap" and falls_behind(values, name) else "" for name in methods}
            shown = [f"{values[name].mean():.3f}{marks[name]}" if len(values[name]) else "" for name in methods]
            yield f"| {data} | {n} | {' | '.join(shown)} |"


def seeds_of(rows: Sequence[Row], cell: tuple[str, int, str], metric: str) -> Floats:
    """A metric of one method in one cell, by seed."""
    own = [row for row in rows if (row.data, row.labels, row.method) == cell]
    return np.array([getattr(row, metric) for row in sorted(own, key=lambda row: row.seed)])


def falls_behind(values: dict[str, Floats], name: str) -> bool:
    """Whether a method's mean is below that of its best rival by more than .02 and two paired standard errors."""
    rivals = {PAL: RIVALS, PAL_SENTENCE: (PAL, SENTENCE), ACTIVE: (RANDOM,)}.get(name, ())
    own = [values[rival] for rival in rivals if len(values.get(rival, ())) == len(values[name]) > 0]
    if not own:
        return False
    lead = max(own, key=np.mean) - values[name]
    error = lead.std(ddof=1) / np.sqrt(len(lead)) if len(lead) > 1 else 0.0
    return bool(lead.mean() > max(MARGIN, 2 * error))


def areas(rows: Sequence[Row]) -> Iterator[str]:
    """Area under the AP curve, active less random, with its 95 % interval over the seeds."""
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        most = max(
            Counter(row.labels for row in own).values()
        )  # with one label among the first items there is no model
        steps = np.array(sorted({row.labels for row in own if sum(each.labels == row.labels for each in own) == most}))
        found = []
        for name in (ACTIVE, RANDOM):
            values = np.stack([seeds_of(rows, (data, int(n), name), "ap") for n in steps], axis=1)
            found.append(Curve(name, steps, values).areas())
        better = Curve("", np.zeros(1, np.int64), (found[0] - found[1])[:, None])
        low, high = better.intervals()
        yield f"{data}: area {better.means[0]:+.3f} [{low[0]:+.3f}, {high[0]:+.3f}], {len(found[0])} seeds"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[])
    for flag in ("--rivals", "--sentence", "--active"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--abc", type=Path)
    parser.add_argument("--against", type=Path)
    chosen = parser.parse_args(arguments)
    rows: list[Row] = []

    def take(found: Iterator[Row]) -> None:
        for row in found:
            rows.append(row)
            chosen.json.write_text(json.dumps([each.as_dict() for each in rows]), encoding="utf-8")
            values = f"AP {row.ap:.3f}, accuracy {row.accuracy:.3f}, macro-F1 {row.macro_f1:.3f}, ECE {row.ece:.3f}"
            print(f"{row.data} {row.labels} {row.seed} {row.method}: {values}, {row.fit_s:.1f} s", file=sys.stderr)

    for data in read(chosen.folder, chosen.only) if chosen.folder else ():
        take(replays(data, chosen) if chosen.active else cells(data, chosen))
    if chosen.abc:
        take(on_headlines(chosen.abc))
    print("\n".join([*summary(rows), *areas([row for row in rows if row.method in (ACTIVE, RANDOM)])]))
    if chosen.against:
        print(against(rows[-1], chosen.against))


if __name__ == "__main__":
    main()
