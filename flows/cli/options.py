"""What commands share: options, the project they are about, and how a batch is shown."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from flows.run import FormatName, KnownFormat
    from tasks.project import Project

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The project's directory; else $PAL_WORKSPACE, else upward from here."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="csv, xlsx, html, label-studio, argilla, doccano, prodigy or original; several with commas.",
    ),
]


def project_at(workspace: Path | None) -> Project:
    """The project that is meant, as `open_project` finds it."""
    from tasks.project import open_project

    return open_project(workspace)


def format_names(form: list[str] | None) -> tuple[FormatName, ...]:
    """Format names, given one by one or with commas.

    Raises:
        BatchError: There is no such format.
    """
    from annotation.formats.registry import find_formats

    names = tuple(name.strip() for value in form or () for name in value.split(",") if name.strip())
    find_formats(names)
    return cast("tuple[FormatName, ...]", names)


def known_format(form: str | None) -> KnownFormat:
    """The format of filled files; `by content` where none is given.

    Raises:
        BatchError: There is no such format.
    """
    from annotation.formats.registry import find_formats

    if form is None:
        return "by content"
    find_formats([form])
    return cast("KnownFormat", form)


def show_batch(project: Project, batch_id: str | None, as_json: bool, none: str = "no batch is open") -> None:
    """Print a batch and its files, or what to do where there is none."""
    from annotation.batch import batch_files
    from flows.cli.status import pal_command
    from storage.lake.batches import find_batch
    from storage.lake.items import count_pool

    pal = pal_command(project)
    if batch_id is None:
        more = f"{pal} next" if count_pool(project.store) else f"{pal} import FILE"
        print("null" if as_json else f"{none}; next: {more}")
        return
    progress = find_batch(project.store, batch_id)
    batch, folder = progress.batch, project.workspace.batches / batch_id
    files = batch_files(folder)
    if as_json:
        print_json(
            {
                "batch_id": batch_id,
                "purpose": batch.purpose.value,
                "n": batch.n,
                "n_answered": progress.n_answered,
                "model_id": batch.model_id,
                "files": [str(folder / each.file) for each in files],
            }
        )
        return
    answered = f", {progress.n_answered} of them answered" if progress.n_answered else ""
    print(f"batch {batch_id}: {batch.n} items for {batch.purpose.value}{answered}")
    print(folder)
    for form in dict.fromkeys(each.format for each in files):
        print(f"  {form:<13}{'  '.join(each.file for each in files if each.format == form)}")
    print(f"next: fill one of them in and run {pal} ingest, or answer here: {pal} annotate {batch_id}")


def print_json(value: Any) -> None:
    """Print a value as JSON: dataclasses as objects, what JSON does not know as strings."""

    def plain(other: Any) -> Any:
        return asdict(other) if is_dataclass(other) and not isinstance(other, type) else str(other)

    print(json.dumps(value, ensure_ascii=False, indent=1, default=plain))
