"""`pal predict`: label and probability of texts on the command line and of the rows of a file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.options import print_json
from flows.log_lines import counted
from storage.errors import SourceError
from tasks.project import Project

if TYPE_CHECKING:
    from storage.readers.source import Source

STANDARD = Path("-")
"""The path that stands for stdin or stdout."""
_COPY = ".stdin"
"""The name of a copy of stdin; messages say `stdin` instead."""


def predictions(
    project: Project, texts: Sequence[str], file: Path | None, text_column: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The label of each text, its probability, and the probabilities of all labels; a file is read in slices.

    Each row of the file has its number, its id if the file has ids, and the reason if it has no prediction.

    Raises:
        ModelError: There is no model yet, or it does not fit pal.toml.
        SourceError: Neither texts nor a file, or the file cannot be read.
    """
    if not all(text.strip() for text in texts) or not (texts or file):
        raise SourceError("There is no text to label.", hint='Run pal predict "a text", or pal predict --file FILE')
    from tasks.predict_file import model_in_production, predict_rows

    model = model_in_production(project)
    if texts:
        probabilities = model.predict(list(texts))
        decided = model.calibration.decisions(probabilities)
        for text, row, label in zip(texts, probabilities.tolist(), decided.tolist(), strict=True):
            yield {"text": text, **_decision(model.labels, row, label)}
    for rows in described_source(file, text_column).all_rows() if file else ():
        predicted = predict_rows(model, rows)
        decisions = zip(predicted.decided.tolist(), predicted.probabilities.tolist(), strict=True)
        ids = rows.ids.to_pylist() if rows.ids is not None else None
        for k, (number, text, reason) in enumerate(
            zip(rows.numbers.tolist(), rows.texts.to_pylist(), rows.reasons.to_pylist(), strict=True)
        ):
            source = {"row": number} | ({} if ids is None else {"id": ids[k]})
            if text is None:
                yield {**source, "text": None, "label": None, "probability": None, "reason": reason}
            else:
                label, row = next(decisions)
                yield {**source, "text": text, **_decision(model.labels, row, label)}


def described_source(file: Path, text_column: Sequence[str] | None) -> Source:
    """Open a file of texts and print to stderr how it is read."""
    is_copy = file.name == _COPY
    from storage.readers.opening import open_source  # a text on the command line needs none of it

    source = open_source(file, text_column=text_column)
    print(f"{'stdin' if is_copy else file}: {source.description}", *source.layout.notes, sep="\n  ", file=sys.stderr)
    return source


def _decision(labels: Sequence[str], probabilities: Sequence[float], label: int) -> dict[str, Any]:
    by_label = dict(zip(labels, probabilities, strict=True))
    return {"label": labels[label], "probability": probabilities[label], "probabilities": by_label}


@contextmanager
def file_or_stdin(project: Project, file: Path | None) -> Iterator[Path | None]:
    """The path of a file, or for `-` of a copy of stdin, since readers read a file more than once."""
    if file != STANDARD:
        yield file
        return
    with project.workspace.scratch() as scratch:
        with (scratch / _COPY).open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        try:
            yield scratch / _COPY
        except SourceError as error:
            path = str(scratch / _COPY)
            raise SourceError(error.what.replace(path, "stdin"), error.hint.replace(path, "stdin")) from error


def print_predictions(listed: Iterator[dict[str, Any]], *, as_json: bool) -> None:
    """Print predictions as they come: as a JSON array, or in tab-separated lines."""
    if as_json:
        between = "[\n"
        for prediction in listed:
            print(between, json.dumps(prediction, ensure_ascii=False), sep="", end="")
            between = ",\n"
        print("\n]")
        return
    for row in listed:
        cells = [str(row["row"])] if "row" in row else []
        cells += [_one_line(row["id"])] if "id" in row else []
        if row["label"] is None:
            print(*cells, "", "", "", row["reason"], sep="\t")
        else:
            print(*cells, row["label"], f"{row['probability']:.4f}", _one_line(row["text"]), sep="\t")


def _one_line(value: str | None) -> str:
    return " ".join((value or "").split())


def write_predictions(
    project: Project, file: Path, text_column: Sequence[str] | None, output: Path, *, as_json: bool
) -> None:
    """Write the rows of a file with their predictions, to stdout for `-`, and print a summary.

    Raises:
        SourceError: The suffix of the output is not a format, or the output is the file itself.
    """

    from storage.lake.outgoing import format_of_file
    from tasks.predict_file import predict_file

    if output == STANDARD:
        with project.workspace.scratch() as scratch:
            found = predict_file(project, described_source(file, text_column), scratch / "rows.csv", "csv")
            with (scratch / "rows.csv").open("rb") as written:
                shutil.copyfileobj(written, sys.stdout.buffer)
    else:
        form = "xlsx" if output.suffix.lower() == ".xlsx" and not output.is_dir() else format_of_file(output)
        if output.exists() and output.samefile(file):
            raise SourceError(f"{output} is the file that is read.", hint="Name another file with --output.")
        found = predict_file(project, described_source(file, text_column), output.resolve(), form)
    for role, name in found.columns.items():
        if role != name:
            print(f"The file has a column {role!r}; the new one is named {name!r}.", file=sys.stderr)
    if as_json and output != STANDARD:
        print_json(found)
        return
    without = found.n_rows - found.n_predicted
    missing = f", {without:,} without a prediction (see column {found.columns['reason']!r})" if without else ""
    print(
        f"Wrote {output}: {counted(found.n_rows, 'row')}{missing}, by model {found.model_id}.",
        file=sys.stderr if output == STANDARD else sys.stdout,
    )
