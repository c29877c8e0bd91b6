"""The keys of a pipe and of a pseudo-terminal, read here and by the annotator at work in a process of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from waiting import PATIENCE_S, until

from annotation.formats.journal import Journal, read_journal
from annotation.keys import line_keys, plain, terminal_keys, typed_line
from storage.records import Answer

ROOT = Path(__file__).parents[2]
BURST_OVER_S = 0.15


def test_a_typed_line_ends_with_enter_is_given_up_with_escape_and_none_when_the_keys_end() -> None:
    shown: list[str] = []
    keys = iter(["backspace", *"a\x9bx", "backspace", "left", *"b ", "enter", "c", "escape", "d", "ctrl-d", "e"])
    assert typed_line(keys, shown.append) == "a\x9bb "
    assert shown == ["a", "\ufffd", "x", "\b \b", "b", " "]
    assert typed_line(keys, shown.append) == ""
    assert [typed_line(keys, shown.append) for _ in range(2)] == [None, None]


def test_a_typed_line_of_a_file_is_its_next_line_as_it_stands() -> None:
    keys = line_keys(io.StringIO("n\n  to  be kept \r\n"))
    assert next(keys) == "n"
    assert [typed_line(keys, print) for _ in range(2)] == ["  to  be kept ", None]


def test_plain_text_holds_no_command_to_the_terminal_and_loses_no_script() -> None:
    assert plain("\x1b]0;x\x07\u2066\x7f\ud800") == "␛]0;x␇\ufffd\ufffd\ufffd"
    assert plain("öé李👩‍👩‍👧\nنص") == "öé李👩‍👩‍👧\nنص"


class Terminal:
    """A pseudo-terminal with nobody's program on it; `stdin` is the program's side."""

    def __init__(self) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.stdin: TextIO = os.fdopen(slave, encoding="utf-8")
        self.before = self.modes()

    def types(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def modes(self) -> list[object]:
        import termios

        return termios.tcgetattr(self.stdin)

    def close(self) -> None:
        self.stdin.close()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    it = Terminal()
    yield it
    it.close()


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("1é李", ["1", "é", "李"]),
        ("\t\x7f\x08 \x01", ["tab", "backspace", "backspace", " ", "ctrl-a"]),
        ("\r\n", ["enter", "enter"]),
        ("\x1b[A\x1b[B\x1bOC\x1bOD", ["up", "down", "right", "left"]),
        ("\x1b[3~\x1b[1;5D\x1b[[A\x1bx", ["that key"] * 4),
        ("1\r2\n", ["1", "2"]),  # a burst: the Enter belongs to the key
        ("1\r\r", ["1", "enter"]),
    ],
)
def test_a_terminals_keys_have_names(terminal: Terminal, typed: str, names: list[str]) -> None:
    keys = terminal_keys(terminal.stdin)
    terminal.types(typed + "|")
    assert list(iter(lambda: next(keys), "|")) == names


def test_closing_the_keys_restores_the_terminal_and_the_handler_of_sigcont(terminal: Terminal) -> None:
    handler = signal.getsignal(signal.SIGCONT)
    keys = terminal_keys(terminal.stdin)
    assert terminal.modes() != terminal.before
    assert signal.getsignal(signal.SIGCONT) != handler
    keys.close()  # type: ignore[attr-defined]
    assert terminal.modes() == terminal.before
    assert signal.getsignal(signal.SIGCONT) == handler


def test_outside_of_the_main_thread_keys_are_read_without_a_signal_handler(terminal: Terminal) -> None:
    read = []

    def work() -> None:
        keys = terminal_keys(terminal.stdin)
        terminal.types("1")
        read.append(next(keys))
        keys.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert read == ["1"]
    assert terminal.modes() == terminal.before


CHILD = """
import fcntl, os, sys, termios
from pathlib import Path
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from annotation import terminal
from annotation.label_set import Handout
from annotation.formats.journal import Journal
from annotation.keys import terminal_keys
from annotation.label_set import Label, LabelSet
from storage.records import BatchItem
labels = LabelSet("t", "Q?", "DEFINED.", (Label("related", "1"), Label("not_related", "0", default=True)))
items = [BatchItem(f"i{k}", f"<item {k}>", f"h{k}") for k in range(1, 9)]
with Journal(Path(sys.argv[1])) as journal:
    answered = {item_id: answer.answer for item_id, answer in journal.latest.items()}
    keys = terminal_keys(sys.stdin)
    tally = terminal.annotate(Handout("b", labels, items), answered, journal, annotator="a", keys=keys, out=sys.stdout)
print("TALLY", tally.answered, tally.finished, flush=True)
"""


def take_ctrl_c() -> None:
    """A shell that starts the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Person:
    """Sits at a pseudo-terminal, in which the annotator runs in a process of its own."""

    def __init__(self, journal: Path) -> None:
        import pty

        self.journal = journal
        self._master, self._slave = pty.openpty()
        self.modes = self._modes()
        self._seen, self._from = "", 0
        command, end = [sys.executable, "-c", CHILD, str(journal)], self._slave
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=end, stdout=end, stderr=end, start_new_session=True, preexec_fn=take_ctrl_c
        )

    def sees(self, text: str) -> None:
        """Wait for a text after those seen before."""
        import select

        until = time.monotonic() + PATIENCE_S
        while (at := self._seen.find(text, self._from)) < 0:
            assert time.monotonic() < until, f"no {text!r} in {self._seen[self._from :]!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self._seen += os.read(self._master, 65536).decode()
        self._from = at + len(text)

    def types(self, keys: str, pause_s: float = BURST_OVER_S) -> None:
        time.sleep(pause_s)
        os.write(self._master, keys.encode())

    def answers(self) -> list[str]:
        return [f"{x.answer.item_id} {x.answer.answer} {x.answer.note}".strip() for x in read_journal(self.journal)]

    def stops_and_goes_on(self) -> None:
        """As Ctrl-Z and `fg` of a shell, which sets the terminal to its own mode in between."""
        import termios

        self.process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(self.process.pid, os.WUNTRACED)[1])
        termios.tcsetattr(self._slave, termios.TCSANOW, self.modes)  # type: ignore[arg-type]
        self.process.send_signal(signal.SIGCONT)

    def kills(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def leaves(self, n: int, finished: bool = False) -> None:
        """The program has ended well, and the terminal is as it was."""
        self.sees(f"TALLY {n} {finished}")
        assert self.process.wait(PATIENCE_S) == 0
        assert self._modes() == self.modes

    def cbreak(self) -> bool:
        return self._modes() != self.modes

    def stands_up(self) -> None:
        if self.process.poll() is None:
            self.kills()
        os.close(self._master)
        os.close(self._slave)

    def _modes(self) -> list[object]:
        import termios

        return termios.tcgetattr(self._slave)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path / "answers-a.jsonl")
    yield someone
    someone.stands_up()


def test_on_a_terminal_each_key_answers_at_once_and_is_on_disk_before_the_next_question(person: Person) -> None:
    for k in range(1, 9):
        person.sees(f"<item {k}>")
        assert len(person.answers()) == k - 1
        assert person.cbreak()
        person.types("1" if k % 2 else "\r")
    person.sees("All 8 items are answered")
    person.types("\r")
    person.leaves(8, finished=True)
    assert person.answers() == [f"i{k} {'related' if k % 2 else 'not_related'}" for k in range(1, 9)]


def test_killed_at_any_moment_of_saving_loses_at_most_the_current_answer(tmp_path: Path) -> None:
    for n in range(4):
        someone = Person(tmp_path / "killed.jsonl")
        someone.sees(f"{n + 1}/8")
        someone.sees(f"<item {n + 1}>")
        someone.types("1")
        time.sleep(n * 0.0005)
        someone.kills()
        someone.stands_up()
        given = someone.answers() if someone.journal.exists() else []
        assert given in ([f"i{k} related" for k in range(1, n + 1)], [f"i{k} related" for k in range(1, n + 2)])
        if len(given) == n:  # lost: the next round starts one further all the same
            with Journal(someone.journal) as journal:
                journal.append("b", f"h{n + 1}", Answer(f"i{n + 1}", "related", "a"))


def test_after_ctrl_z_and_fg_a_key_answers_at_once_again(person: Person) -> None:
    person.sees("<item 1>")
    person.stops_and_goes_on()
    until(person.cbreak)
    person.types("1")
    person.sees("<item 2>")
    person.types("s")
    person.leaves(1)


@pytest.mark.parametrize("way_out", ["\x03", "\x04", "s", "q"])
def test_every_way_out_restores_the_terminal(person: Person, way_out: str) -> None:
    person.sees("<item 1>")
    assert person.cbreak()
    person.types("1")
    person.sees("<item 2>")
    person.types(way_out)
    person.sees("1 of 8 answered (1 related), 7 left.")
    person.leaves(1)


def test_what_was_typed_before_the_first_question_answers_nothing(person: Person) -> None:
    person.types("1\n1\n", pause_s=0)
    person.sees("<item 1>")
    time.sleep(0.2)
    assert person.answers() == []
    person.types("s")
    person.leaves(0)


def test_a_terminal_that_goes_away_ends_the_program_and_loses_no_answer(person: Person) -> None:
    person.sees("<item 1>")
    person.types("1")
    person.sees("<item 2>")
    os.close(person._master)
    person._master = os.dup(person._slave)
    person.process.wait(PATIENCE_S)
    assert person.answers() == ["i1 related"]
