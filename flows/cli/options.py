"""What commands share: `--json` and `--workspace`, formats, and how a batch is shown."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, cast

import typer

if TYPE_CHECKING:
    from flows.run import FormatName, KnownFormat
    from tasks.project import Project

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The project's directory (default: $PAL_WORKSPACE, or found from the current directory upward).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="csv, xlsx, html, label-studio, argilla, doccano, prodigy or original; separated by commas.",
    ),
]


P = ParamSpec("P")


@dataclass(frozen=True)
class Call:
    """The options that all commands on a workspace have; every such command gets a call as its first argument.

    Attributes:
        workspace: The directory given with `--workspace`.
        as_json: Whether `--json` was given.
    """

    workspace: Path | None = None
    as_json: bool = False

    @cached_property
    def project(self) -> Project:
        """The project of the command, as `open_project` finds it."""
        from tasks.project import open_project

        return open_project(self.workspace)

    def shows_json(self, value: Any) -> bool:
        """Print a value as JSON if `--json` was given; returns whether."""
        if self.as_json:
            print_json(value)
        return self.as_json

    def show(self, value: Any, *lines: object) -> None:
        """Print a value as JSON if `--json` was given, otherwise these lines."""
        if not self.shows_json(value):
            print(*lines, sep="\n")

    def is_of(self, context: typer.Context) -> bool:
        """Whether a group was called without a command; otherwise the command gets the workspace of the group."""
        if context.invoked_subcommand is None:
            return True
        if self.workspace is not None:
            context.default_map = {context.invoked_subcommand: {"workspace": str(self.workspace)}}
        return False


def command(
    group: typer.Typer, name: str | None = None, *, epilog: str, json: bool = True
) -> Callable[[Callable[Concatenate[Call, P], None]], Callable[Concatenate[Call, P], None]]:
    """Register a function as a command with `--workspace` and `--json`.

    Args:
        json: Whether the command has `--json`.
    """

    def register(body: Callable[Concatenate[Call, P], None]) -> Callable[Concatenate[Call, P], None]:
        group.command(name, epilog=epilog)(with_call(body, json=json))
        return body

    return register


def with_call(body: Callable[Concatenate[Call, P], None], *, json: bool = True) -> Callable[..., None]:
    """A function for typer that takes `--workspace` and `--json`, and calls `body` with them as a `Call`."""
    signature = inspect.signature(body, eval_str=True)
    shared = {"as_json": (JsonOption, False)} if json else {}
    parameters = [*signature.parameters.values()][1:] + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=option, default=default)
        for name, (option, default) in (shared | {"workspace": (WorkspaceOption, None)}).items()
    ]

    @wraps(body)
    def run(*, workspace: Path | None, as_json: bool = False, **options: Any) -> None:
        body(Call(workspace, as_json), **options)  # type: ignore[call-arg]

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


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


def show_batch(call: Call, batch_id: str | None, none: str = "no batch is open") -> None:
    """Print a batch and its files, or what to do if there is none."""
    from annotation.batch import batch_files
    from flows.cli.status import pal_command
    from flows.log_lines import counted
    from storage.lake.batches import find_batch
    from storage.lake.evaluation_reserve import RESERVE
    from storage.lake.items import count_pool

    project, pal = call.project, pal_command(call.project)
    if batch_id is None:
        more = f"{pal} next" if count_pool(project.store) else f"{pal} import FILE"
        call.show(None, f"{none}; next: {more}")
        return
    progress = find_batch(project.store, batch_id)
    batch, folder = progress.batch, project.workspace.batches / batch_id
    files = batch_files(folder)
    values = {
        "batch_id": batch_id,
        "purpose": batch.purpose.value,
        "n": batch.n,
        "n_answered": progress.n_answered,
        "model_id": batch.model_id,
        "files": [str(folder / handout.file) for handout in files],
    }
    names: dict[str, list[str]] = {}
    for handout in files:
        names.setdefault(handout.format, []).append(handout.file)
    n_reserve = batch.mix.get(RESERVE, 0)
    purpose = batch.purpose.value + (f" ({n_reserve:,} for evaluation)" if n_reserve else "")
    answered = f", {progress.n_answered} of them answered" if progress.n_answered else ""
    call.show(
        values,
        f"batch {batch_id}: {counted(batch.n, 'item')} for {purpose}{answered}",
        folder,
        *(f"  {form:<13}{'  '.join(files_of)}" for form, files_of in names.items()),
        f"next: fill one of them in and run {pal} ingest, or answer here: {pal} annotate {batch_id}",
    )


def print_json(value: Any) -> None:
    """Print a value as JSON: dataclasses as objects, what JSON does not know as strings."""

    def plain(other: Any) -> Any:
        return asdict(other) if is_dataclass(other) and not isinstance(other, type) else str(other)

    print(json.dumps(value, ensure_ascii=False, indent=1, default=plain))
