"""The terminal annotator, fed with keys; test_keys.py has it on a real pseudo-terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from annotation.formats.journal import Journal, read_journal
from annotation.keys import line_keys
from annotation.label_set import Handout, Label, LabelSet, with_keys
from annotation.terminal import Tally, annotate
from storage.errors import BatchError
from storage.records import Answer, BatchItem

ROOT = Path(__file__).parents[2]
LABELS = LabelSet(
    "disaster",
    "Is it disaster-related?",
    "Any story about a disaster.",
    (Label("related", "1", positive=True), Label("not_related", "0", default=True)),
)
NO_DEFAULT = replace(LABELS, labels=(Label("related", "1"), Label("not_related", "0")))
THREE = LabelSet("t", "Which?", "...", (Label("red", "1"), Label("blue", "2"), Label("Green", "G")))
PROMPT = "1 related · Enter not_related"
COMMANDS = "2 back · u unsure · space skip · n note · l list · z undo · ? help · s leave"


class Clock:
    """Time as a test says: it stands still between the keys, and passes when one is waited for."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The terminal's clock."""
    clock = Clock()
    monkeypatch.setattr("annotation.terminal.time", clock)
    return clock


def texts(n: int) -> list[BatchItem]:
    return [BatchItem(f"i{k}", f"headline number {k}.", f"h{k}") for k in range(1, n + 1)]


class Screen(io.StringIO):
    """A terminal, or none."""

    def __init__(self, tty: bool = False) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def ask(
    tmp_path: Path,
    keys: Iterator[str] | list[str],
    n: int = 3,
    answered: dict[str, str] | None = None,
    labels: LabelSet = LABELS,
    screen: Screen | None = None,
    items: list[BatchItem] | None = None,
) -> tuple[Tally, list[str], str]:
    """The tally, what the journal holds as `item answer note`, and what was shown."""
    path = tmp_path / "answers-anna.jsonl"
    out = screen or Screen()
    with Journal(path) as journal:
        handout, given = Handout("b0003", labels, items or texts(n)), answered or {}
        tally = annotate(handout, given, journal, annotator="anna", keys=iter(keys), out=out)
    written = [f"{x.answer.item_id} {x.answer.answer} {x.answer.note}".strip() for x in read_journal(path)]
    return tally, written, out.getvalue()


def test_keys_answer_and_move_on_to_the_end(tmp_path: Path) -> None:
    tally, written, shown = ask(tmp_path, ["1", "enter", "0", "u", " ", "s"], n=5)
    assert written == ["i1 related", "i2 not_related", "i3 not_related", "i4 unsure", "i5 skip"]
    assert tally == Tally(5, 5, {"related": 1, "not_related": 2, "unsure": 1, "skip": 1}, finished=True)
    assert list(tally.by_answer) == ["related", "not_related", "unsure", "skip"]
    for place in range(1, 6):
        assert f"{place}/5 · batch b0003" in shown
        assert f"headline number {place}." in shown
    assert shown.count(PROMPT) == 5
    assert shown.count(COMMANDS) == 1
    assert LABELS.question in shown
    assert re.search(r"\b5 of 5\b.*1 related, 2 not_related, 1 unsure, 1 skip.*\b0\b", shown)


def test_a_line_says_who_answered_which_text_of_which_batch_and_in_what_time(tmp_path: Path, clock: Clock) -> None:
    def slowly() -> Iterator[str]:
        clock.now += 4.5
        yield "1"
        clock.now += 0.0625
        yield "1"

    ask(tmp_path, slowly())
    first, second = read_journal(tmp_path / "answers-anna.jsonl")
    assert (first.batch_id, first.text_hash, first.answer.annotator) == ("b0003", "h1", "anna")
    assert (first.answer.seconds, second.answer.seconds) == (4.5, 0.062)
    assert first.answer.annotated_at is not None


@pytest.mark.parametrize(
    "key", ["x", "3", "9", "that key", "ctrl-a", "tab", "up", "escape", "\x1b", "", "11", "related"]
)
def test_an_unknown_key_never_answers_and_says_which_keys_there_are(tmp_path: Path, key: str) -> None:
    tally, written, shown = ask(tmp_path, [key, key])
    assert (tally.answered, written) == (0, [])
    assert len(re.findall(r".+press \? for the keys", shown)) == 2
    assert "2/3" not in shown
    assert "\x1b" not in shown


def test_enter_without_a_default_label_answers_nothing_and_says_so(tmp_path: Path) -> None:
    _, written, shown = ask(tmp_path, ["enter", "enter", "0"], labels=NO_DEFAULT)
    assert written == ["i1 not_related"]
    assert shown.count("Enter ") == 2


@pytest.mark.parametrize("back", ["2", "backspace", "left"])
def test_back_any_number_of_steps_and_a_change_appends_to_the_history(tmp_path: Path, back: str) -> None:
    tally, written, shown = ask(tmp_path, ["1", "1", back, back, back, "0", "right", "u", "s"])
    assert written == ["i1 related", "i2 related", "i1 not_related", "i3 unsure"]
    assert tally.by_answer == {"related": 1, "not_related": 1, "unsure": 1}
    assert len(re.findall(r"\bfirst\b", shown)) == 1
    assert len(re.findall(r"\brelated\b.*→", shown)) == 3


def test_right_keeps_an_answer_but_passes_no_item_that_has_none(tmp_path: Path) -> None:
    _, written, shown = ask(tmp_path, ["right", "1", "left", "right", "right"])
    assert written == ["i1 related"]
    assert len(re.findall(r"\bno answer\b.*\bspace\b", shown)) == 2


def test_it_starts_at_the_first_unanswered_item_and_passes_over_answered_ones(tmp_path: Path) -> None:
    answered = {"i1": "related", "i2": "", "i4": "unsure", "elsewhere": "related"}
    tally, written, shown = ask(tmp_path, ["1", "1", "1", "s"], n=5, answered=answered)
    assert written == ["i2 related", "i3 related", "i5 related"]
    assert re.findall(r"(\d)/5 ·", shown) == ["2", "3", "5"]
    assert tally == Tally(5, 5, {"related": 4, "unsure": 1}, finished=True)


def test_after_the_last_item_one_can_go_back(tmp_path: Path) -> None:
    tally, written, shown = ask(tmp_path, ["1", "1", "x", "1", "2", "0", "enter", "1"], n=2)
    assert written == ["i1 related", "i2 related", "i2 not_related"]
    assert len(re.findall("2 back .* Enter finish", shown)) == 4, (
        "at the end, after x and after 1, and at the end again"
    )
    assert tally.finished


def test_a_batch_answered_before_offers_to_go_back(tmp_path: Path) -> None:
    tally, written, _ = ask(tmp_path, ["left", "0", "s"], n=1, answered={"i1": "related"})
    assert written == ["i1 not_related"]
    assert tally == Tally(1, 1, {"not_related": 1}, finished=True)


@pytest.mark.parametrize("key", ["s", "S", "q", "ctrl-d"])
def test_leaving_keeps_what_was_answered(tmp_path: Path, key: str) -> None:
    tally, written, shown = ask(tmp_path, ["1", key, "1"])
    assert written == ["i1 related"]
    assert tally == Tally(1, 3, {"related": 1}, finished=False)
    assert "1 of 3 answered (1 related), 2 left." in shown
    assert "answers-anna.jsonl" in shown


def test_the_keys_are_closed_when_an_answer_cannot_be_written(tmp_path: Path) -> None:
    closed = []

    def keys() -> Iterator[str]:
        try:
            yield from ["1"] * 3
        finally:
            closed.append(True)

    class Broken(Journal):
        def append(self, *_: object) -> None:
            raise BatchError("The disk is full.", hint="make room")

    with Broken(tmp_path / "j") as journal, pytest.raises(BatchError):
        annotate(Handout("b", LABELS, texts(2)), {}, journal, annotator="a", keys=keys(), out=io.StringIO())
    assert closed == [True]


def test_definition_shows_it_and_the_item_again(tmp_path: Path) -> None:
    _, written, shown = ask(tmp_path, ["d", "?", "D", "1"])
    assert shown.count(LABELS.definition) == 3
    assert shown.count("headline number 1.") == 4
    assert written == ["i1 related"]


def test_without_a_definition_help_says_so_and_has_the_keys(tmp_path: Path) -> None:
    _, _, shown = ask(tmp_path, ["?"], labels=replace(LABELS, definition=""))
    assert "no definition" in shown
    assert "  0 or Enter  not_related\n" in shown


def test_a_note_goes_with_the_answer_given_next(tmp_path: Path) -> None:
    _, written, _ = ask(tmp_path, ["n", *"1 sx", "backspace", *"?", "enter", "1", "1"])
    assert written == ["i1 related 1 s?", "i2 related"]
    (tmp_path / "none").mkdir()
    empty = ["n", "enter", "n", "x", "escape", "n", "backspace", " ", "enter", "1"]
    assert ask(tmp_path / "none", empty)[1] == ["i1 related"], "an empty or escaped note changes nothing"


def test_a_note_is_added_to_the_present_answer_and_stays_when_the_answer_changes(tmp_path: Path) -> None:
    _, written, shown = ask(tmp_path, ["1", "left", "n", *"odd", "enter", "0"])
    assert written == ["i1 related", "i1 related odd", "i1 not_related odd"]
    _, written, shown = ask(tmp_path, ["left", "u"], answered={"i1": "not_related"})
    assert written[-1] == "i1 unsure odd", "a later session knows the note"
    assert "Note: odd" in shown


def test_a_note_without_an_answer_is_said_to_be_lost(tmp_path: Path) -> None:
    _, written, shown = ask(tmp_path, ["n", "x", "enter", "s"])
    assert written == []
    assert re.search(r"\bnote\b.*\b1/3\b", shown)


def test_where_2_is_a_label_it_answers_and_the_arrow_goes_back(tmp_path: Path) -> None:
    tally, written, shown = ask(tmp_path, ["2", "g", "G", "2", "left", "1", "s"], labels=THREE)
    assert written == ["i1 blue", "i2 Green", "i3 Green", "i3 red"]
    assert "1 red · 2 blue · G Green\n" in shown
    assert "← back · u unsure" in shown
    assert "2 back" not in shown
    assert tally.by_answer == {"red": 1, "blue": 1, "Green": 1}


@pytest.mark.parametrize("undo", ["z", "Z"])
def test_undo_takes_answers_of_this_session_back_one_by_one(tmp_path: Path, undo: str) -> None:
    keys = [undo, "1", "0", "left", "left", "n", *"odd", "enter", undo, undo, undo, undo, "u"]
    tally, written, shown = ask(tmp_path, keys)
    assert written == ["i1 unsure"]
    assert (tally.answered, tally.by_answer) == (1, {"unsure": 1})
    assert re.findall(r"Undone: (\w+)", shown) == ["related", "not_related", "related"]
    assert shown.count("Nothing to undo") == 2
    (tmp_path / "corrected").mkdir()
    tally, written, _ = ask(tmp_path / "corrected", ["1", "left", "n", "x", "enter", "0", undo, "s"])
    assert written == ["i1 related", "i1 related x"]
    assert tally.by_answer == {"related": 1}
    (tmp_path / "end").mkdir()
    assert ask(tmp_path / "end", ["n", "x", "enter", "1", undo, "0"], n=1)[1] == ["i1 not_related x"], "the note stays"


def test_what_others_wrote_after_an_answer_is_not_undone(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal, Journal(tmp_path / "j") as other:
        for each, name in ((journal, "anna"), (other, "ben")):
            each.append("b", "h1", Answer("i1", "related", name))
        assert journal.undo() is None
        assert (other.undo(), len(read_journal(tmp_path / "j"))) == (Answer("i1", "related", "ben"), 1)


def test_the_list_goes_to_items_and_finds_them_by_words_and_answers(tmp_path: Path) -> None:
    keys = ["1", "u", "l", *"20", "enter", "1", "l", *"UNSURE", "enter", *"nowhere", "enter", *"2", "enter", "0"]
    _, written, shown = ask(tmp_path, [*keys, "l", "enter", "s"], n=20)
    assert written == ["i1 related", "i2 unsure", "i20 related", "i2 not_related"]
    rows = re.findall(r"^([> ]) +(\d+)  (\S+) +headline number (\d+)\.$", shown, re.MULTILINE)
    assert rows[:3] == [(" ", "1", "related", "1"), (" ", "2", "unsure", "2"), (">", "3", "-", "3")]
    assert len(rows) == 15 + 15 + 1 + 15
    assert rows[30] == (" ", "2", "unsure", "2")
    assert shown.count("5 more not shown.") == 3
    (tmp_path / "end").mkdir()
    _, written, _ = ask(tmp_path / "end", ["1", "1", "l", "enter", "l", "1", "enter", "0"], n=2)
    assert written == ["i1 related", "i2 related", "i1 not_related"]


def test_where_labels_have_l_and_z_other_keys_list_and_undo(tmp_path: Path) -> None:
    labels = LabelSet("t", "?", "d", (Label("left", "l"), Label("zebra", "z")))
    _, written, shown = ask(tmp_path, ["l", "z", "ctrl-u", "ctrl-l", "1", "enter", "z"], labels=labels)
    assert written == ["i1 left", "i1 zebra"]
    assert "ctrl-l list · ctrl-u undo" in shown


def test_no_word_is_broken_at_80_columns(tmp_path: Path) -> None:
    names = [f"a label of {n} words" for n in range(12)]
    labels = replace(LABELS, question="Which one? " * 12, definition="It means this. " * 20)
    labels = replace(labels, labels=with_keys([Label(name, description="Meaning " * 15) for name in names]))
    items = [BatchItem("i1", "unbroken" * 15 + " floods " * 25 + "火事" * 50, "h"), *texts(1)]
    _, _, shown = ask(tmp_path, ["x", "?", "l", "enter", "n", "s"], labels=labels, items=items, screen=Screen(tty=True))
    lines = re.sub(r"\x1b\[\d*m", "", shown).split("\n")
    assert max(sum(1 + (char in "火事") for char in line) for line in lines) == 80
    whole = {"Which", "one?", "It", "means", "this.", "Meaning", "floods"}
    words = [word for line in lines for word in line.split()]
    assert whole <= {*words}
    assert not [word for word in words for each in whole if word != each and len(word) > 2 and word in each]
    assert all(any(f"{label.key} {label.name}" in line for line in lines) for label in labels.labels)
    assert COMMANDS.replace("2 back", "← back") in lines
    assert not [line for line in lines if line.startswith("·")]


def test_words_to_highlight_are_underlined_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    labels = replace(LABELS, highlight=("flood", "a.b", "火事"))
    items = [BatchItem("i1", "FLOOD floods a.b aab 昨日の火事で", "h")]
    shown = ask(tmp_path, ["s"], labels=labels, items=items, screen=Screen(tty=True))[2]
    assert re.findall(r"\x1b\[4m(.*?)\x1b\[24m", shown) == ["FLOOD", "a.b", "火事"]


def test_many_labels_are_typed_in_part_and_help_has_their_keys_and_meanings(tmp_path: Path) -> None:
    labels = replace(LABELS, labels=with_keys([Label(f"class {n}", description=f"means {n}") for n in range(10, 23)]))
    _, written, shown = ask(tmp_path, ["/", *"22", "enter", "/", *"class", "enter", "?", "1"], labels=labels)
    assert written == ["i1 class 22", "i2 class 10"]
    assert "Several labels contain 'class'" in shown
    assert "  1  class 10\n     means 10\n" in shown


def test_a_label_without_a_key_is_typed(tmp_path: Path) -> None:
    labels = replace(THREE, labels=(*THREE.labels, Label("dark green"), Label("grey")))
    typed = ["/", *"grye", "enter", "/", *"Dark green", "enter", "/", "enter", "/", "escape", "1", "/", "ctrl-d"]
    tally, written, shown = ask(tmp_path, typed, labels=labels)
    assert written == ["i1 dark green", "i2 red"]
    assert "grey" in shown, "the nearest label is named"
    assert tally.answered == 2
    for folder in ("typed", "keyed"):
        (tmp_path / folder).mkdir()
    _, written, _ = ask(tmp_path / "typed", line_keys(io.StringIO("/\ngrey\n2\n")), labels=labels)
    assert written == ["i1 grey", "i2 blue"]
    _, written, _ = ask(tmp_path / "keyed", ["/", "1"])
    assert written == ["i1 related"], "where every label has a key, / means nothing"


def test_texts_cannot_command_the_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2Jb\x9b31mc\x07d\re\tf\u202eg\x00h\udce9i\r\nsecond line öé李👩‍👩‍👧"
    _, _, shown = ask(tmp_path, ["s"], items=[BatchItem("i1", evil, "h")])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)
    assert "a␛[2Jb\ufffd31mc␇d␍e f\ufffdg␀h\ufffdi\n  second line öé李👩‍👩‍👧" in shown


def test_an_output_that_cannot_show_a_character_does_not_stop_the_work(tmp_path: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    with Journal(tmp_path / "j") as journal:
        item = BatchItem("i1", "Überschwemmung 李", "h")
        tally = annotate(Handout("b", LABELS, [item]), {}, journal, annotator="a", keys=iter("1"), out=out)
    assert tally.answered == 1
    out.seek(0)
    assert "?berschwemmung ?" in out.read()


def test_colours_only_for_a_terminal_and_without_no_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")
    assert "\x1b[1m\n  headline number 1." in ask(tmp_path / ".", ["s"], screen=Screen(tty=True))[2]
    assert "\x1b" not in ask(tmp_path, ["s"], screen=Screen(tty=False))[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ask(tmp_path, ["s"], screen=Screen(tty=True))[2]


def test_a_batch_without_items_is_finished(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        tally = annotate(Handout("b", LABELS, []), {}, journal, annotator="a", keys=iter([]), out=io.StringIO())
    assert tally == Tally(0, 0, {}, finished=True)


def test_lines_are_keys_and_the_end_of_the_file_saves_and_leaves(tmp_path: Path) -> None:
    lines = io.StringIO("1\n\nyes\n  \r\nn\n2 s\nu \nleft\nright\n")
    tally, written, _ = ask(tmp_path, line_keys(lines), n=6)
    assert written == ["i1 related", "i2 not_related", "i3 skip", "i4 unsure 2 s"]
    assert (tally.answered, tally.finished) == (4, False)
    (tmp_path / "note").mkdir()
    _, written, _ = ask(tmp_path / "note", line_keys(io.StringIO("1\nn\n")))
    assert written == ["i1 related"], "the file ends in a note"


def test_an_enter_soon_after_a_key_answers_and_says_which_item(tmp_path: Path, clock: Clock) -> None:
    def hasty() -> Iterator[str]:
        yield "1"
        clock.now += 0.125
        yield from ["enter", "s"]

    _, written, shown = ask(tmp_path, hasty())
    assert written == ["i1 related", "i2 not_related"]
    assert re.search(r"-> not_related\n.*\b0\.12 s\b.*\b1\b.*\b2/3\b.*'not_related'.*\b2 to go back.*\n\n3/3", shown)


@pytest.mark.parametrize(("key", "name", "place"), [("2", "2", 1), (" ", "space", 2), ("u", "u", 2), ("d", "d", 1)])
def test_an_enter_soon_after_any_single_key_is_pointed_out(tmp_path: Path, key: str, name: str, place: int) -> None:
    _, written, shown = ask(tmp_path, [key, "enter"])
    assert written[-1] == f"i{place} not_related"
    assert re.search(rf"\b0\.00 s\b.*\b{name}\b.*\b{place}/3\b", shown)


def test_the_back_key_pointed_out_is_the_one_that_goes_back(tmp_path: Path) -> None:
    labels = replace(THREE, labels=(Label("red", "1", default=True), Label("blue", "2")))
    _, written, shown = ask(tmp_path, ["2", "enter", "left", "2"], labels=labels)
    assert re.search(r"\b2\b.*\b2/3\b.*'red'.*← to go back\b", shown)
    assert written == ["i1 blue", "i2 red", "i2 blue"]


def test_an_enter_that_is_meant_is_not_pointed_out(tmp_path: Path, clock: Clock) -> None:
    def calm() -> Iterator[str]:
        yield "1"
        clock.now += 0.3
        yield from ["enter", "enter", "left", "enter"]  # nor after a key with a name

    _, written, shown = ask(tmp_path, calm())
    assert written == ["i1 related", "i2 not_related", "i3 not_related", "i3 not_related"]
    assert not re.search(r"\b0\.\d\d s\b", shown)


def test_importing_the_module_brings_no_heavy_library() -> None:
    code = "import sys, annotation.terminal; print(sorted({m.split('.')[0] for m in sys.modules}))"
    names = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not set(eval(names)) & {"rich", "typer", "duckdb", "numpy", "pyarrow", "torch", "prefect", "asyncio"}
