"""The entry point of `pal`: runs the command of `flows.cli.commands`, and says how it ended.

It imports nothing before its signal handlers stand, so that Ctrl-C ends a command in one line from its start on.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_HURRY_S = 1.0
"""A second signal that comes later than this after the first ends the process at once."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end. (Python itself ends by SIGINT wherever a bare KeyboardInterrupt passed.)"""


class _Signals:
    """Ctrl-C and SIGTERM as KeyboardInterrupt, wherever the command is.

    Libraries turn that into errors of their own, or swallow it; what counts is that a signal came.

    Attributes:
        number: The first signal that came; None where none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at = 0.0
        for name in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(name) is not signal.SIG_IGN:  # as under nohup
                signal.signal(name, self._interrupt)

    def _interrupt(self, number: int, _: object) -> None:
        if self.number is not None:
            if time.monotonic() - self._at > _HURRY_S:
                os._exit(128 + number)
            return
        self.number, self._at = number, time.monotonic()
        raise Interrupted(f"Interrupted by {signal.Signals(number).name}.")

    def end(self) -> int | None:
        """Let no signal disturb the end of the process. Where one came before, says so and returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self.number is None:
            return None
        name = signal.Signals(self.number).name
        _to_stderr(f"Interrupted by {name}. Completed steps are saved; run the command again to continue.")
        return 128 + self.number


def main() -> None:
    """Run the command; whatever ends it is one message and an exit code, a traceback only with `--debug`."""
    signals = _Signals()
    try:
        _open_standard_files()
        code = _run()
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # nothing is above it
        code = signals.end() or _explain(error)
        sys.exit(code)
    sys.exit(signals.end() or code)


def _run() -> int:
    import typer

    from flows.cli.commands import app

    try:
        result = app(standalone_mode=False)
    except typer.Abort:
        _to_stderr("Error: The input ended before the answer.\nHint: Run the command in a terminal.")
        return 1
    except Exception as error:
        if callable(show := getattr(error, "show", None)):  # of the command line, by whichever click typer brings
            show()
            return int(getattr(error, "exit_code", 2))
        raise
    return result if isinstance(result, int) else 0


def _open_standard_files() -> None:
    """Let stdin, stdout and stderr be there: else the next file opened, such as the lake's, would take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout.isatty() or sys.stderr.isatty():
        from flows.cli.screen import Screen

        sys.stdout, sys.stderr = (Screen(stream) if stream.isatty() else stream for stream in (sys.stdout, sys.stderr))


def _explain(error: BaseException) -> int:
    """Print what went wrong and what to type; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):  # whoever reads the output has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    from flows.log_lines import is_debugging
    from storage.errors import PalError, disk_error

    if is_debugging():
        raise error
    if isinstance(error, KeyboardInterrupt):
        _to_stderr("Interrupted. Completed steps are saved; run the command again to continue.")
        return 130
    if not isinstance(error, PalError):
        error = disk_error(error) or error
    if isinstance(error, OSError):
        error = PalError(f"{error}.", hint="Check the path and its permissions.")
    if isinstance(error, PalError):
        _to_stderr(f"Error: {error}")
        return 1
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    _to_stderr(
        f"Error: Unexpected error: {reason}\n"
        "Hint: Check the workspace: pal check. To report a bug, add the traceback: pal --debug ..."
    )
    return 1


def _to_stderr(message: str) -> None:
    """Print a message; where stderr is closed or full, the exit code says it alone."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


if __name__ == "__main__":
    main()
