"""The commands about models: listed, promoted by hand, taken back; registered in `flows.cli.commands`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Call, command

if TYPE_CHECKING:
    from storage.records import Decision

commands = typer.Typer(rich_markup_mode=None)


@command(commands, epilog="Example: pal models --json")
def models(call: Call, all_: Annotated[bool, typer.Option("--all", help="Not only the 15 newest.")] = False) -> None:
    """List the models with their metrics, and which one is in production and why."""
    from flows.cli.model_choice import model_rows, models_text

    rows = model_rows(call.project)
    call.show(rows, models_text(rows, None if all_ else 15))


@command(commands, epilog="Example: pal adapt --texts 50000")
def adapt(
    call: Call,
    texts: Annotated[int, typer.Option(min=1, help="The most texts of the pool to read; a random sample.")] = 100_000,
    labels: Annotated[bool, typer.Option(help="Learn from the training items first.")] = True,
    teacher: Annotated[
        Path | None, typer.Option(help="Directory of another encoder than MiniLM, for other languages.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
) -> None:
    """An encoder of this workspace's own: minutes once (2 to 5 ms a text), as fast as the shipped one afterwards."""
    from flows.adapt import adapt as adapt_flow
    from flows.run import start
    from storage.lake.items import count_pool
    from tasks.adapt_encoder import check_pool
    from tasks.learning.encoders import MINILM_ADAPTED

    project = call.project
    check_pool(count_pool(project.store))
    chosen = str(teacher.resolve()) if teacher else ""
    encoder_id = start(project, adapt_flow, texts, labels, chosen, seed)
    call.show(
        {"encoder_id": encoder_id},
        f"encoder {encoder_id}",
        "next: pal next (or the nightly run) trains with it; it is promoted where it is no worse"
        if project.config.model.encoder == MINILM_ADAPTED
        else f'next: in pal.toml, [model] encoder = "{MINILM_ADAPTED}"; then pal next trains with it',
    )


@command(commands, epilog="Example: pal promote m00600-c59a290e51")
def promote(
    call: Call,
    model: Annotated[str, typer.Argument(help="Its id, or as much of it as only one model has.")],
    reason: Annotated[str, typer.Option(help="Kept with the decision.")] = "asked for by hand",
) -> None:
    """Put a model into production by hand, whatever the promotion gate says of it."""
    from flows.cli.model_choice import promote_by_hand

    _show(call, promote_by_hand(call.project, model, reason))


@command(commands, epilog="Example: pal rollback")
def rollback(call: Call) -> None:
    """Return to the previous production model; the gate will not promote the rolled back one again."""
    from flows.cli.model_choice import roll_back

    _show(call, roll_back(call.project))


def _show(call: Call, decision: Decision) -> None:
    if decision.previous_id == decision.model_id:
        call.show(decision, f"{decision.model_id} is in production already")
        return
    undo = f"pal promote {decision.previous_id}" if decision.decided_by == "rollback" else "pal rollback"
    before = f", in place of {decision.previous_id}; to undo it: {undo}" if decision.previous_id else ""
    call.show(decision, f"in production: {decision.model_id}{before}")
