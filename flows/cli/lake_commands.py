"""The commands of the service and of the lake: up, down, check, backup, restore, maintain, migrate, move."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tomlkit
import typer

from flows.cli.options import Call, command
from storage.files.folders import write_whole
from tasks.config.values import as_toml

if TYPE_CHECKING:
    from storage.errors import ServiceError
    from storage.records import RunRecord
    from tasks.project import Project

commands = typer.Typer(rich_markup_mode=None)

_SINGULAR = re.compile("(?<=ch)es$|s$")
lake = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
commands.add_typer(
    lake,
    name="lake",
    help="Move the lake to PostgreSQL and object storage, or back.",
    epilog="Example: pal lake move --catalog 'postgres:host=db dbname=pal' --data s3://bucket/pal",
)


@command(lake, epilog="Example: pal lake move --catalog 'postgres:host=db dbname=pal' --data s3://bucket/pal --switch")
def move(
    call: Call,
    catalog: Annotated[str, typer.Option(help="postgres:host=... dbname=..., or sqlite:PATH.")],
    data: Annotated[str, typer.Option(help="s3://bucket/folder, or a folder.")],
    switch: Annotated[bool, typer.Option("--switch", help="Write the new location to pal.toml.")] = False,
) -> None:
    """Copy the lake with its whole history, verify it, and show what to write in pal.toml; the old lake is kept."""
    from storage.upkeep.moving import move_lake
    from storage.workspace import Workspace
    from tasks.config.load import checked
    from tasks.config.settings import LakeConfig

    project = call.project
    checked(LakeConfig, {"catalog": catalog, "data": data}, "The command", "pal lake move --help")
    refuse_while_running(project, "pal lake move", up_too=True)
    root = project.workspace.root
    moved = move_lake(project.store, *Workspace(root, catalog, data).lake, root)
    if switch:
        switch_lake(project.workspace.config_file, catalog, data)
    call.show(
        moved,
        f"{sum(moved.rows.values()):,} rows in {len(moved.rows)} tables at version {moved.newest}: the same there",
        f"labelled sets of {len(moved.versions)} older versions: the same there",
        f"record of runs: {moved.n_runs:,} runs",
        f"pal.toml says so now; the old lake is still at {project.config.lake.catalog}"
        if switch
        else f"to use it, write in pal.toml:\n{lake_lines(catalog, data)}",
    )


@command(commands, epilog="Example: pal check --repair")
def check(
    call: Call,
    repair: Annotated[bool, typer.Option("--repair", help="Regenerate what can be derived from other data.")] = False,
) -> None:
    """Look for damage in the lake, models, encoders and batches, and report how to repair it."""
    from flows.log_lines import counted
    from tasks.repair import check_project
    from tasks.repair import repair as make_again

    project = call.project
    checked, repaired = check_project(project), []
    if repair:
        if not any(damage.repair == "runs" or damage.path.startswith("lake") for damage in checked.damaged):
            refuse_while_running(project, "pal check --repair")
        repaired = make_again(project, checked)
        checked = check_project(project) if repaired else checked
    call.show(
        {"damaged": checked.damaged, "repaired": repaired, "checked": checked.counts},
        f"Checked {', '.join(counted(n, _SINGULAR.sub('', name)) for name, n in checked.counts.items())}.",
        *repaired,
        *(f"Damaged: {damage.path}: {damage.what}.\n  {damage.hint}" for damage in checked.damaged),
        f"Damaged in {counted(len(checked.damaged), 'place')}." if checked.damaged else "No damage.",
    )
    if checked.damaged:
        raise typer.Exit(1)


@command(commands, epilog="Example: pal backup /mnt/backups/headlines")
def backup(
    call: Call,
    folder: Annotated[Path, typer.Argument(help="A new folder, or an earlier backup to update.")],
) -> None:
    """Back up a snapshot of the workspace and its lake; other commands may run meanwhile."""
    from storage.upkeep.backup import back_up

    manifest, new_bytes = back_up(call.project.workspace, folder.resolve())
    call.show(
        {"folder": str(folder), "lake_version": manifest.lake_version, "bytes": manifest.n_bytes, "new": new_bytes},
        f"{folder}: lake version {manifest.lake_version}, {len(manifest.data) + len(manifest.files) + 1} files",
        f"{manifest.n_bytes:,} bytes, {new_bytes:,} of them new",
    )


@commands.command(epilog="Example: pal restore /mnt/backups/headlines headlines")
def restore(
    folder: Annotated[Path, typer.Argument(help="A backup made by `pal backup`.")],
    directory: Annotated[Path, typer.Argument(help="The directory of the restored workspace.")],
    force: Annotated[bool, typer.Option("--force", help="Move an existing workspace aside; replace a lake.")] = False,
) -> None:
    """Restore a workspace and its lake atomically, after checking the backup."""
    from storage.upkeep.backup import restore as bring_back

    restored, aside = bring_back(folder.resolve(), directory.resolve(), force=force)
    print(f"workspace {directory}: as of {restored.at}, lake version {restored.lake_version}")
    if aside is not None:
        print(f"what was there is in {aside}")


@command(commands, epilog="Example: pal maintain")
def maintain(call: Call) -> None:
    """Tidy the lake: write inlined rows to Parquet, merge small files, and delete leftovers older than a day."""
    from storage.upkeep.maintenance import maintain as tidy

    project = call.project
    refuse_while_running(project, "pal maintain")
    done = tidy(project.store)
    call.show(
        done,
        f"{done.flushed_rows:,} rows written from the catalog to Parquet",
        f"files in use: {done.n_files[0]:,} before, {done.n_files[1]:,} now",
        f"{done.n_deleted:,} files deleted, {done.freed_bytes:,} bytes freed; merged files go after a day",
    )


@command(commands, epilog="Example: pal migrate --dry-run")
def migrate(
    call: Call,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Migrate the lake of an older version of pal; a backup is made first."""
    from storage.lake.schema import MIGRATIONS
    from storage.upkeep.upgrade import plan_upgrade, upgrade

    project = call.project
    plan = plan_upgrade(project.workspace)
    if not dry_run:
        if plan.steps and project.workspace.catalog.startswith("postgres:"):
            for run in plan.going_on:
                raise _busy(run, "pal migrate")
        plan = upgrade(project.workspace)
    values = {"steps": plan.steps, "runs": len(plan.runs), "backup": str(plan.backup) if plan.steps else None}
    lines = [
        f"{'Would migrate' if dry_run else 'Migrated'} the lake from schema {plan.version} to {len(MIGRATIONS)}:",
        *(f"  {number}. {step}" for number, step in enumerate(plan.steps, start=plan.version + 1)),
        f"Runs that {'would move' if dry_run else 'moved'} out of the lake: {len(plan.runs):,}",
        f"{'Backup would go to' if dry_run else 'Backup:'} {plan.backup}",
    ]
    call.show(
        {"dry_run": dry_run, "from": plan.version, "to": len(MIGRATIONS), **values},
        *(lines if plan.steps else [f"The workspace is up to date (schema {len(MIGRATIONS)})."]),
    )


def _busy(run: RunRecord, command: str) -> ServiceError:
    from storage.errors import ServiceError

    return ServiceError(
        f"{run.flow} has been running since {run.started_at:%Y-%m-%d %H:%M} UTC (process {run.pid} on {run.host}); "
        f"{command} was not started.",
        hint="Wait until it has finished; see pal status.",
    )


def refuse_while_running(project: Project, command: str, *, up_too: bool = False) -> None:
    """Refuse a command while a flow of the workspace runs, or, with `up_too`, while `pal up` could start one.

    Raises:
        ServiceError: One runs.
    """
    from flows.server.processes import held
    from storage.errors import ServiceError

    project.workspace.store()  # migrates an old lake, whose runs are still in it
    for run in project.workspace.runs().going_on():
        raise _busy(run, command)
    if up_too:
        with held(project) as free:
            if not free:
                raise ServiceError(f"pal is up; {command} was not started.", hint="Stop it first: pal down")


@command(commands, epilog="Example: pal up --port 4201 --detach", json=False)
def up(
    call: Call,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port (default: from pal.toml).")] = None,
    host: Annotated[str | None, typer.Option(help="Host of the server (default: from pal.toml).")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
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


def lake_lines(catalog: str, data: str) -> str:
    """The section, as written in pal.toml.

    >>> print(lake_lines("postgres:host=db dbname=pal", "s3://bucket/pal"))
    [lake]
    catalog = "postgres:host=db dbname=pal"
    data = "s3://bucket/pal"
    """
    return f"[lake]\ncatalog = {as_toml(catalog)}\ndata = {as_toml(data)}"


def switch_lake(path: Path, catalog: str, data: str) -> None:
    """Write the section into a pal.toml; other lines are unchanged."""
    document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    document.setdefault("lake", tomlkit.table()).update({"catalog": catalog, "data": data})
    write_whole(path, tomlkit.dumps(document).encode())
