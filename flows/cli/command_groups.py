"""The help of `pal`: its commands in groups by task, each with a whole sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

GROUPS = {
    "Start": "init status config demo",
    "Import": "import",
    "Label": "next annotate loop ingest submit publish close find show sample strategies review agreement history",
    "Model": "models promote rollback adapt predict report simulate",
    "Run": "nightly up down",
    "Data": "labels items annotators export",
    "Lake": "check backup restore maintain migrate lake",
}
"""Title -> commands, in the order in which help lists them."""


class GroupedHelp(TyperGroup):
    """The commands of `GROUPS`; one that is in no group is listed at the end."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write a section for each group."""
        groups = {title: names.split() for title, names in GROUPS.items()}
        known = {name for names in groups.values() for name in names}
        groups["Other"] = [name for name in self.list_commands(ctx) if name not in known]
        for title, names in groups.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, each.get_short_help_str(1_000)) for name, each in commands if each and not each.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
