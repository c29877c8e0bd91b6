"""The commands that bring server, schedule and worker up and down; registered in `flows.cli.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Call, command

commands = typer.Typer(rich_markup_mode=None)


@command(commands, epilog="Example: pal up --port 4201 --detach", json=False)
def up(
    call: Call,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Of UI and API; else that of pal.toml.")] = None,
    host: Annotated[str | None, typer.Option(help="Where the server listens; else as in pal.toml.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background; returns once it is up.")] = False,
) -> None:
    """Start Prefect's server and UI, the schedule and a worker, for nightly runs, forms and `pal submit`."""
    from flows.server.processes import found_up, held
    from flows.server.service import Service, start_in_background

    project = call.project
    with held(project) as free:
        if not free:
            there = found_up(project)
            where = f"its UI is {there.ui}" if there else "it is just coming up"
            print(f"pal is up for {project.workspace.root} already: {where}; to stop it: pal down")
            return
        if not detach:
            Service(project, host, port).run()
            return
    log = start_in_background(project, host, port)
    print(log.read_text(encoding="utf-8"), end="")
    print(f"Running in the background; to follow it: tail -f {log}")


@command(commands, epilog="Example: pal down", json=False)
def down(call: Call) -> None:
    """Stop what `pal up` brought up: the worker, then the server."""
    from flows.server.processes import stop_up

    project = call.project
    print("down" if stop_up(project) else f"nothing is up for {project.workspace.root}")
