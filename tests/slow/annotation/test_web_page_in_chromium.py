"""The web page in a real browser: every key does what it says, nothing that was answered is lost, no text is markup."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from chromium import PHONE, WIDE, Browser, chromium
from projects import project_of
from selenium.common.exceptions import ElementClickInterceptedException, ElementNotInteractableException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from waiting import until

from annotation.formats.journal import Journal, JournalLine, read_journal
from annotation.formats.web_page import write_web_page
from annotation.label_set import Handout, Label, LabelSet, with_keys
from storage.lake.batches import items_of
from storage.records import Answer, Batch, BatchItem
from storage.workspace import Workspace
from tasks.collect import collect_answers
from tasks.config.template import DISASTER
from tasks.sample import publish_batches

NASTY = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '" onclick="alert(3)',
    "<!-- & &lt; {{ 7*7 }}",
    "فيضانات تجتاح المدينة 12 مرة",
    "Zoë 🔥 火事\ntwo  lines\u2028three",
    "nul \x00, half \ud800 of a character",
    "unbroken" * 100,
    "long " * 2_000,
]
KEYS = {"1": "related", "0": "not_related", Keys.ENTER: "not_related", "u": "unsure", "U": "unsure", " ": "skip"}
NO_STORAGE, NO_DATABASE = "Storage.prototype.setItem = fails;", "IDBDatabase.prototype.transaction = fails;"
Open = Callable[..., "Page"]
LOW, ZOOMED = (640, 450), (320, 256)  # a small window, and 1280 x 1024 at 400 %
VISIBLE_TEXT = """
    const boxes = ["text", "item", "beside"].map((id) => document.getElementById(id).getBoundingClientRect());
    return Math.min(...boxes.map((box) => box.bottom), innerHeight) - Math.max(...boxes.map((box) => box.top), 0);"""


class Page:
    """A page of a batch open in a browser, and the keyboard in front of it."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self.browser, self.path = browser, path
        browser.show_as(WIDE)
        self.load()

    def load(self) -> None:
        self.browser.get(self.path.as_uri())
        until(lambda: self.of_root("ready"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def press_as_on_another_keyboard(self, key: str) -> None:
        """A key that ChromeDriver's keyboard, a US one, does not have."""
        for kind in ("keyDown", "keyUp"):
            self.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": key})

    def click(self, css: str) -> None:
        until(lambda: self._is_clicked(css))

    def _is_clicked(self, css: str) -> bool:
        try:
            self.browser.element(css).click()
        except (ElementClickInterceptedException, ElementNotInteractableException):  # a dialog is still coming up
            return False
        return True

    def text(self, css: str) -> str:
        return self.browser.text(css)

    def script(self, script: str, *arguments: object) -> object:
        return self.browser.execute_script(script, *arguments)

    def of_root(self, name: str) -> bool:
        return self.script(f"return document.documentElement.dataset.{name}") == "true"

    def choose(self, shown: str) -> None:
        """An entry of the list's filter, its count left out."""
        options = self.browser.find_elements("css selector", "#filter option")
        next(option for option in options if str(option.get_property("value")) == shown).click()

    def rows(self) -> int:
        return len(self.browser.find_elements("css selector", "#rows li"))

    def place(self) -> str:
        """Where the page stands: `Item 3 of 9`."""
        return self.text("#position")

    def become(self, name: str) -> None:
        """Another annotator, whose answers are there after a reload."""
        self.click("#change-name")
        self.press(Keys.CONTROL + "a", name, Keys.ENTER)
        until(lambda: self.text("#change-name") == name)  # a dialog tells of its end a moment after it closes
        self.load()

    def focused(self) -> str:
        focused = self.browser.switch_to.active_element
        return str(focused.get_attribute("id") or focused.get_attribute("data-answer"))

    def saved(self) -> list[JournalLine]:
        """The answers in the file that `s` saves."""
        for old in self.browser.downloads.iterdir():
            old.unlink()
        self.press("s")
        until(lambda: self.text("#message-title") == "Answers saved")
        self.press(Keys.ENTER)
        return read_journal(self.browser.downloaded())

    def load_answers(self, path: Path, told: str) -> str:
        """Choose a file of saved answers; its outcome, once that says `told`, and where it is read."""
        self.browser.element("#file").send_keys(str(path))
        until(lambda: told in self.text("#message-text"))
        outcome = self.text("#message-title") + "\n" + self.text("#message-text")
        self.click("#message button")
        return outcome

    def answers(self) -> list[tuple[str, str, str]]:
        return [(line.answer.item_id, line.answer.answer, line.answer.note) for line in self.saved()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("user")) as started:
        yield started


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a page of texts (a few plain ones where none are given); fails where the browser complained of it."""
    number = 0

    def opened(
        texts: Sequence[str] = ("zero", "one", "two", "three"),
        label_set: LabelSet = DISASTER,
        annotator: str = "anna",
        context: str = "",
    ) -> Page:
        nonlocal number
        number += 1
        path = tmp_path / f"page-{number}.html"
        batch_id = f"{tmp_path.name}-{number}"[-40:]
        items = [BatchItem(f"i{n}", text, f"hash-{n}", context) for n, text in enumerate(texts)]
        write_web_page(path, Handout(batch_id, label_set, items, annotator))
        return Page(browser, path)

    browser.console()
    yield opened
    # A page in which nobody did anything since it was loaded may not ask before it closes; its answers are kept.
    complaints = [each for each in browser.console() if "'beforeunload'" not in each]
    for handle in browser.window_handles[1:]:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])
    assert complaints == []


def batch_id(page: Page) -> str:
    return page.text("header strong")


def fnv_1a(text: str) -> int:
    digest = 0x811C9DC5
    for byte in text.encode():
        digest = (digest ^ byte) * 0x01000193 % 2**32
    return digest


# Nothing is lost.


def test_a_hundred_items_by_keyboard_with_the_browser_killed_half_way_are_ingested_as_pressed(
    workspace: Workspace, label_set: LabelSet, reserve_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    texts = NASTY[:6] + NASTY[7:]
    batch = reserve_batch(workspace, {f"i{n}": text for n, text in enumerate(texts + [f"text {n}" for n in range(92)])})
    project = project_of(workspace, label_set)
    publish_batches(project)
    items = items_of(workspace.store(), batch.batch_id)
    write_web_page(tmp_path / "page.html", Handout(batch.batch_id, label_set, items))
    draw = random.Random(7)
    pressed = [draw.choice(list(KEYS)) for _ in items]

    with chromium(tmp_path / "user") as first:
        page = Page(first, tmp_path / "page.html")
        page.press("anna", Keys.ENTER, *pressed[:50])
        until(lambda: page.of_root("onDisk"))  # some milliseconds after the last key
        first.kill()
    with chromium(tmp_path / "user") as second:
        page = Page(second, tmp_path / "page.html")
        assert (page.text("#progress-text"), page.place()) == ("50 of 100 answered", "Item 51 of 100")
        assert page.text("#change-name") == "anna"
        page.press(*pressed[50:])
        assert page.text("#end-title") == "All 100 items answered"
        lines = page.saved()
        assert second.downloaded().name == f"answers-{batch.batch_id}-anna.jsonl"
        second.downloaded().rename(workspace.inbox / "from-anna.jsonl")
        assert second.console() == []

    expected = {item.item_id: KEYS[key] for item, key in zip(items, pressed, strict=True)}
    assert {line.answer.item_id: line.answer.answer for line in lines} == expected
    assert all(line.answer.seconds is not None and 0 < line.answer.seconds < 60 for line in lines)
    assert all(timedelta(0) < datetime.now(UTC) - (line.answer.annotated_at or datetime.max) for line in lines)
    (report,) = collect_answers(project, [workspace.inbox / "from-anna.jsonl"])
    assert (report.errors, report.completed) == ([], [batch.batch_id])
    rows = workspace.store().rows("SELECT item_id, answer, annotator FROM lake.annotations")
    assert {item_id: answer for item_id, answer, _ in rows} == expected
    assert {annotator for *_, annotator in rows} == {"anna"}


def test_a_tab_that_crashes_right_after_a_key_loses_nothing(tmp_path: Path) -> None:
    items = [BatchItem(f"i{n}", f"text {n}", f"hash-{n}") for n in range(40)]
    write_web_page(tmp_path / "page.html", Handout("b0001", DISASTER, items, "anna"))
    with chromium(tmp_path / "user") as crashing:
        Page(crashing, tmp_path / "page.html").press(*"1u0" * 10, "1")
        crashing.kill("renderer")
    with chromium(tmp_path / "user") as browser:
        assert Page(browser, tmp_path / "page.html").text("#progress-text") == "31 of 40 answered"


def test_where_the_browser_lost_one_of_its_two_stores_the_other_gives_the_answers_back(open_page: Open) -> None:
    page = open_page()
    page.press("1", "n", "why", Keys.ENTER)
    until(lambda: page.of_root("onDisk"))
    page.script("localStorage.clear()")
    page.load()
    assert (page.text("#progress-text"), page.script("return localStorage.length > 0")) == ("1 of 4 answered", True)
    page.press("0")
    page.browser.execute_async_script(
        "indexedDB.deleteDatabase('pal').onsuccess = arguments[0]; setTimeout(arguments[0], 300)"
    )
    page.load()
    assert page.text("#progress-text") == "2 of 4 answered"
    until(lambda: page.of_root("onDisk"))
    page.script("localStorage.clear()")
    page.load()
    assert page.answers()[-2:] == [("i0", "related", ""), ("i1", "not_related", "why")]


@pytest.mark.parametrize(
    ("broken", "warning"),
    [
        (f"{NO_STORAGE} {NO_DATABASE}", "cannot store anything for this page"),
        (NO_STORAGE, "full or blocked"),
        (NO_DATABASE, "full or blocked"),
    ],
)
def test_a_browser_that_keeps_nothing_is_said_loudly_and_the_answers_can_still_be_saved(
    open_page: Open, broken: str, warning: str
) -> None:
    page = open_page()
    assert not page.browser.element("#alarm").is_displayed()
    page.script(f"const fails = () => {{ throw new Error('full'); }}; {broken}")
    page.press("1", "0")
    assert page.browser.element("#alarm").is_displayed()
    assert page.browser.element("#alarm").aria_role == "alert"
    assert warning in page.text("#alarm")
    assert page.answers() == [("i0", "related", ""), ("i1", "not_related", "")]
    assert all('"full"' in message for message in page.browser.console())


def test_a_page_with_answers_that_no_file_has_asks_before_it_closes(open_page: Open) -> None:
    page = open_page()
    closes = "return window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert page.script(closes) is True
    page.press("1")
    assert page.text("#kept") == "Stored in this browser · 1 answer not handed in yet"
    assert page.script(closes) is False
    page.saved()
    assert page.script(closes) is True
    page.load()
    assert page.text("#kept") == "Stored in this browser"
    page.press("1")
    assert page.script(closes) is False


def test_two_tabs_take_over_each_other_s_answers_and_the_later_one_counts(open_page: Open) -> None:
    page = open_page()
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.load()
    page.press("1", "1")
    page.browser.switch_to.window(first)
    until(lambda: page.text("#progress-text") == "2 of 4 answered")
    assert page.text("#given") == "· now: related"
    page.press("0")
    page.browser.switch_to.window(page.browser.window_handles[1])
    until(lambda: page.text("#progress-text") == "2 of 4 answered")
    assert page.answers() == [("i0", "related", ""), ("i1", "related", ""), ("i0", "not_related", "")]


# Keys and steps.


def test_back_goes_any_number_of_steps_and_answers_can_be_changed(open_page: Open) -> None:
    page = open_page()
    page.press("1", "0", "u")
    assert page.place() == "Item 4 of 4"
    page.press("2", Keys.BACKSPACE, Keys.ARROW_LEFT)
    assert (page.place(), page.text("#given")) == ("Item 1 of 4", "· now: related")
    assert page.browser.element("[data-answer=related]").get_attribute("aria-pressed") == "true"
    page.press(Keys.ARROW_LEFT)
    assert page.text("#status") == "This is the first item."
    page.press(Keys.ARROW_RIGHT, " ")
    assert page.place() == "Item 3 of 4"
    given = [("i0", "related", ""), ("i1", "not_related", ""), ("i2", "unsure", ""), ("i1", "skip", "")]
    assert page.answers() == given


def test_after_the_last_item_the_first_open_one_is_asked_then_the_end_shows_the_tally(open_page: Open) -> None:
    page = open_page()
    page.press("1", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "0")
    assert page.place() == "Item 2 of 4"
    page.press("u", " ")
    assert page.text("#end-title") == "All 4 items answered"
    assert page.text("#tally") == "1 related1 not_related1 unsure1 skip"
    page.press("1")
    assert "go back to change" in page.text("#status")
    page.press("2")
    assert page.place() == "Item 4 of 4"
    page.press(Keys.ARROW_RIGHT, Keys.ENTER)
    assert page.text("#message-title") == "Answers saved"


def test_a_key_that_nobody_gave_a_meaning_is_no_answer_and_is_told(open_page: Open, three_labels: LabelSet) -> None:
    page = open_page(label_set=three_labels)
    for key in ["x", "9", "é", "<"]:
        page.press_as_on_another_keyboard(key)
        assert page.text("#status") == f"“{key}” does nothing here; the buttons show the keys."
        assert page.text("#live").startswith(f"“{key}” does nothing here")
    page.press(Keys.ENTER)
    assert page.text("#status") == "Enter does not choose an answer here."
    page.press(Keys.F7, Keys.SHIFT, Keys.ESCAPE, Keys.PAGE_DOWN)
    assert page.text("#progress-text") == "0 of 4 answered"


def test_the_keys_of_labels_go_before_other_meanings_and_case_does_not_matter(open_page: Open) -> None:
    labels = (Label("two", "2"), Label("letter", "é"), Label("mark", "<"))
    page = open_page(label_set=LabelSet("t", "Which?", "All.", labels))
    page.press("2")
    page.press_as_on_another_keyboard("É")
    page.press("<", Keys.BACKSPACE, "U")
    assert [answer for _, answer, _ in page.answers()] == ["two", "letter", "mark", "unsure"]


def test_combinations_held_keys_and_input_methods_answer_nothing_more(open_page: Open) -> None:
    page = open_page()
    for modifier in (Keys.CONTROL, Keys.ALT, Keys.META):
        ActionChains(page.browser).key_down(modifier).send_keys("1").key_up(modifier).perform()
    event = {"type": "keyDown", "key": "1", "text": "1", "windowsVirtualKeyCode": 49}
    page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", event | {"windowsVirtualKeyCode": 229})
    assert page.text("#progress-text") == "0 of 4 answered"
    for repeats in (False, True, True):
        page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", event | {"autoRepeat": repeats})
    assert page.text("#progress-text") == "1 of 4 answered"


@pytest.mark.parametrize("key", [Keys.ENTER, " "])
def test_a_button_with_the_focus_that_is_pressed_answers_once(open_page: Open, key: str) -> None:
    page = open_page()
    page.script("document.querySelector('[data-answer=related]').focus()")
    page.press(key)
    assert (page.text("#progress-text"), page.focused()) == ("1 of 4 answered", "item")
    page.click("[data-answer=unsure]")
    page.press(key)
    assert [answer for _, answer, _ in page.answers()] == ["related", "unsure", KEYS[key]]


def test_a_button_that_was_clicked_does_not_take_the_next_key(open_page: Open) -> None:
    page = open_page()
    for clicked in ("#show-definition", "#back", "#forward"):
        page.click(clicked)
        assert page.focused() == "item"
    page.press(" ")
    assert page.answers() == [("i1", "skip", "")]


def test_enter_right_after_a_label_key_counts_and_is_pointed_out(open_page: Open) -> None:
    page = open_page()
    page.script("""for (const key of ["1", "Enter"]) document.dispatchEvent(new KeyboardEvent("keydown", {key}))""")
    assert "Item 2: not_related. Enter came right after the last answer" in page.text("#status")
    assert [answer for _, answer, _ in page.answers()] == ["related", "not_related"]


def test_what_is_typed_in_the_note_is_a_note_and_goes_with_the_answer(open_page: Open) -> None:
    page = open_page()
    page.press("n", "1 0 u s d? 2", Keys.ENTER)
    assert (page.text("#progress-text"), page.focused()) == ("0 of 4 answered", "item")
    page.load()
    assert page.browser.element("#note").get_property("value") == "1 0 u s d? 2"
    page.press("1", "2", "n", "!", Keys.ENTER)
    assert page.text("#status") == "Note saved with item 1."
    page.press("n", "?", Keys.ESCAPE)
    assert page.answers() == [("i0", "related", "1 0 u s d? 2"), ("i0", "related", "1 0 u s d? 2!")]


def test_a_note_without_an_answer_is_not_in_the_file_and_that_is_told(open_page: Open) -> None:
    page = open_page()
    page.press("1", "n", "later", Keys.ENTER, "s")
    assert "Still open: 3 items of 4." in page.text("#message-text")
    assert "Left out: 1 note without an answer" in page.text("#message-text")


def test_d_and_question_mark_show_and_hide_the_definition_and_the_question_stays(open_page: Open) -> None:
    page = open_page()
    assert page.browser.element("#definition").is_displayed(), "shown at the start"
    for key, shown in [("d", False), ("?", True), ("D", False)]:
        page.press(key)
        assert page.browser.element("#definition").is_displayed() is shown
        assert page.browser.element("#show-definition").get_attribute("aria-expanded") == str(shown).lower()
        assert page.browser.element("#question").is_displayed()
    assert DISASTER.definition in page.text("#definition")


def test_undo_takes_back_what_was_not_handed_in_and_a_reload_and_another_tab_know_it(open_page: Open) -> None:
    page, undo = open_page(), Keys.CONTROL + "z"
    page.press("1", "n", "why", Keys.ENTER, "0", "2", "u")
    assert page.text("#kept") == "Stored in this browser · 2 answers not handed in yet", "a correction is no third item"
    page.press(undo)
    assert (page.place(), page.text("#given")) == ("Item 2 of 4", "· now: not_related")
    page.press(undo)
    assert (page.place(), page.text("#progress-text")) == ("Item 2 of 4", "1 of 4 answered")
    assert page.browser.element("#note").get_property("value") == "why", "it stays for the next answer"
    page.load()
    assert page.text("#progress-text") == "1 of 4 answered"
    page.press("u")
    assert page.answers() == [("i0", "related", ""), ("i1", "unsure", "why")]
    page.click("#undo")
    assert "nothing to undo" in page.text("#status")
    assert page.text("#progress-text") == "2 of 4 answered"


def test_many_labels_are_narrowed_by_typing_and_enter_picks_the_best_match(open_page: Open) -> None:
    names = [f"class {n}" for n in range(1, 14)] + ["Résumé", "résumé sent", "late"]
    labels = [Label(name, description="a curriculum vitae" if name == "late" else "") for name in names]
    page = open_page([f"text {n}" for n in range(5)], LabelSet("t", "Which?", "All.", with_keys(labels)))

    def shown() -> list[str]:
        buttons = page.browser.find_elements("css selector", "#labels button:not([hidden])")
        return [str(button.get_attribute("data-answer")) for button in buttons]

    for typed, left in {
        "resume": ["Résumé", "résumé sent"],
        "CLASS 1": names[:1] + names[9:13],
        "vitae": ["late"],
    }.items():
        page.press("/", typed)
        assert shown() == left
        page.press(Keys.ENTER)
        assert (shown(), page.focused()) == (names, "item")
    page.press("/", "nothing", Keys.ENTER)
    assert page.text("#status") == "No label matches."
    page.press(Keys.ESCAPE)
    assert (shown(), page.focused()) == (names, "item")
    assert [answer for _, answer, _ in page.answers()] == ["Résumé", "class 1", "late"]


def test_answers_can_be_handed_in_by_copy(open_page: Open) -> None:
    page = open_page()
    page.press("1", "n", "é</script>", Keys.ENTER, "0")
    saved = page.saved()
    page.press("u", " ")
    page.click("#copy-at-end")
    until(lambda: page.text("#message-title") == "Answers copied")
    page.press(Keys.ENTER)
    assert page.text("#kept") == "Stored in this browser"
    page.script("document.body.append(Object.assign(document.createElement('textarea'), {id: 'paste'}))")
    page.browser.element("#paste").send_keys(Keys.CONTROL + "v")
    pasted = str(page.browser.element("#paste").get_property("value")).splitlines()
    assert [json.loads(line)["answer"] for line in pasted] == [
        *(line.answer.answer for line in saved),
        "unsure",
        "skip",
    ]
    assert len(page.browser.find_elements("css selector", "#end ol li")) == 3


def test_words_to_highlight_are_marked_whole_in_any_case_and_stay_text(open_page: Open) -> None:
    words = ("flood", "a.b", "<b>", "fire  brigade", "火事")
    texts = ["Floods, FLOOD-water: flood_gate aab a.b <b>x</b>\nFire brigade", "昨日の火事で", "فيضان flood"]
    page = open_page(texts, replace(DISASTER, highlight=words))
    for text, marks in zip(texts, [["FLOOD", "a.b", "<b>", "Fire brigade"], ["火事"], ["flood"]], strict=True):
        assert [mark.text for mark in page.browser.find_elements("css selector", "#text mark")] == marks
        assert page.text("#text") == text
        page.press("1")


def test_the_time_to_go_follows_from_the_own_pace_without_breaks(open_page: Open, tmp_path: Path) -> None:
    page, path = open_page([f"text {n}" for n in range(106)]), tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        for n, seconds in enumerate([3.0, 5.0, 4.0, 4.0, 9_000.0, 4.0]):
            journal.append(batch_id(page), f"hash-{n}", Answer(f"i{n}", "related", "anna", seconds=seconds))
            if n in (3, 5):
                page.load_answers(path, "answer")
                assert page.text("#pace") == {3: "", 5: "· about 9 minutes left"}[n]  # (3 + 5 + 3 * 4 + 12) / 6 * 100 s


@pytest.mark.parametrize("by", ["keyboard", "zoom"])
def test_fifty_items_are_answered_by_keyboard_alone_and_at_400_percent(open_page: Open, by: str) -> None:
    labels = with_keys([Label(f"label {n}") for n in range(12)])
    page = open_page([f"text {n} " * (1 + n * 7 % 40) for n in range(50)], LabelSet("t", "Which?", "All.", labels))
    page.browser.show_as(WIDE if by == "keyboard" else ZOOMED)
    page.load()
    draw = random.Random(3)
    expected = [draw.choice(labels) for _ in range(50)]
    for label in expected:
        assert page.script(VISIBLE_TEXT) >= 20
        if by == "keyboard":
            page.press(label.key)
        else:
            page.click(f'[data-answer="{label.name}"]')  # scrolls to it
    assert page.text("#end-title") == "All 50 items answered"
    if by == "keyboard":
        page.press(Keys.ENTER)
    else:
        page.click("#save-at-end")
    until(lambda: page.text("#message-title") == "Answers saved")
    lines = read_journal(page.browser.downloaded(f"answers-{batch_id(page)}-anna.jsonl"))
    assert [line.answer.answer for line in lines] == [label.name for label in expected]


# Names.


def test_the_name_is_asked_once_and_answers_given_before_get_it(open_page: Open) -> None:
    page = open_page(annotator="")
    page.press("   ", Keys.ENTER)
    assert page.focused() == "name", "spaces are no name"
    page.click("#no-name")
    page.press("1", "s")
    assert page.focused() == "name", "asked again before saving"
    page.press("Zoë / QA", Keys.ENTER)
    until(lambda: page.text("#message-title") == "Answers saved")
    page.press(Keys.ENTER)
    assert page.browser.downloaded("*zo-qa*").name == f"answers-{batch_id(page)}-zo-qa-{fnv_1a('Zoë / QA'):08x}.jsonl"
    page.load()
    assert page.focused() == "item"
    page.press("0")
    assert {line.answer.annotator for line in page.saved()} == {"Zoë / QA"}


def test_answers_without_a_name_can_be_saved_too(open_page: Open) -> None:
    page = open_page(annotator="")
    page.press(Keys.ESCAPE)
    page.press("1", "s")
    page.click("#no-name")
    until(lambda: page.text("#message-title") == "Answers saved")
    (line,) = read_journal(page.browser.downloaded(f"answers-{batch_id(page)}-unnamed*"))
    assert line.answer.annotator == ""


def test_another_name_begins_with_no_answers_and_each_keeps_its_own(open_page: Open) -> None:
    page = open_page(annotator="")
    page.press(Keys.ESCAPE)
    page.press("1")
    for name, answered in {"anna": 1, "ben": 0}.items():
        page.become(name)
        assert page.text("#progress-text") == f"{answered} of 4 answered"
    page.click("#show-list")
    page.click("#rows [data-place='0']")
    page.press("0")
    assert [(line.answer.annotator, line.answer.answer) for line in page.saved()] == [("ben", "not_related")]


def test_a_note_that_waits_for_its_answer_is_of_whoever_typed_it(open_page: Open) -> None:
    page = open_page(annotator="")
    page.press(Keys.ESCAPE)

    def note() -> str:
        return str(page.browser.element("#note").get_property("value"))

    page.browser.element("#note").send_keys("before any name")
    page.become("anna")
    assert note() == "before any name", "it becomes that of the first who says a name"
    page.become("ben")
    assert note() == ""
    page.browser.element("#note").send_keys("ben's")
    page.browser.element("#note").send_keys(Keys.ENTER)
    page.press("0")
    page.become("anna")
    assert note() == "before any name"
    page.press("1")
    assert [(line.answer.annotator, line.answer.note) for line in page.saved()] == [("anna", "before any name")]


# Files.


def test_a_saved_file_goes_on_in_another_browser(open_page: Open, tmp_path: Path) -> None:
    page = open_page(annotator="")
    page.press(Keys.ESCAPE)
    path = tmp_path / "answers.jsonl"
    when = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    with Journal(path) as journal:
        journal.append(batch_id(page), "hash-0", Answer("i0", "unsure", "Anna B", "why", 1.5, when))
        journal.append(batch_id(page), "hash-1", Answer("i1", "skip", "Anna B", annotated_at=when))
        journal.append(batch_id(page), "hash-0", Answer("i0", "related", "Anna B", "", 2.0, when + timedelta(hours=1)))
    before = read_journal(path)
    for told in ("3 answers taken from answers.jsonl, 0 known", "0 answers taken from answers.jsonl, 3 known"):
        page.load_answers(path, told)
    assert (page.place(), page.text("#change-name")) == ("Item 3 of 4", "Anna B")
    page.press("2", "2", "0")
    after = page.saved()
    assert sorted(map(repr, (line.answer for line in after[:3]))) == sorted(repr(line.answer) for line in before)
    assert (after[-1].answer.item_id, after[-1].answer.answer) == ("i0", "not_related")


def test_an_older_answer_that_is_loaded_does_not_replace_a_newer_one(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    page.press("1")
    with Journal(tmp_path / "answers.jsonl") as journal:
        older = Answer("i0", "skip", "anna", annotated_at=datetime(2026, 1, 2, tzinfo=UTC))
        journal.append(batch_id(page), "hash-0", older)
    page.load_answers(tmp_path / "answers.jsonl", "1 answer taken")
    page.press("2")
    assert page.text("#given") == "· now: related"
    assert [answer for _, answer, _ in page.answers()] == ["skip", "related"]


def test_a_clock_that_is_put_back_does_not_turn_the_order_of_answers_around(open_page: Open) -> None:
    page = open_page()
    page.press("1", "2")
    page.script("const now = Date.now; Date.now = () => now() - 3_600_000")
    page.press("0", "2", "n", "late", Keys.ENTER)
    assert page.answers() == [("i0", "related", ""), ("i0", "not_related", ""), ("i0", "not_related", "late")]


def test_what_cannot_be_loaded_is_told_and_the_rest_is_taken(open_page: Open, tmp_path: Path) -> None:
    page, path = open_page(), tmp_path / "answers.jsonl"
    good: dict[str, object] = {
        "batch_id": batch_id(page), "item_id": "i0", "text_hash": "hash-0", "answer": "related", "note": "",
        "annotator": "anna", "seconds": None, "annotated_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    wrong: dict[str, dict[str, object]] = {
        "of batch b9": {"batch_id": "b9"},
        "item i9 is not in this page.": {"item_id": "i9"},
        "item i0 has another text": {"text_hash": "h"},
        "“relatd” is not an answer": {"answer": "relatd"},
        "no time with a zone": {"annotated_at": "2026-01-02T03:04:05"},
        "in the future": {"annotated_at": "2999-01-02T03:04:05Z"},
        "not a number": {"seconds": "1"},
        "no line of saved answers": {"note": None},
    }
    for told, change in wrong.items():
        path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n", encoding="utf-8", newline="\n")
        assert "Line 2: " in page.load_answers(path, told)
    garbage = {b"\x00\xff\xfe": "no line of saved answers", b"[]\n{}\nnull": "3 lines", b"": "is empty"}
    for content, told in garbage.items():
        path.write_bytes(content)
        assert page.load_answers(path, told).startswith("Nothing was loaded")
    path.write_text(json.dumps(good | {"annotator": "ben", "item_id": "i1", "text_hash": "hash-1"}), encoding="utf-8")
    page.load_answers(path, "answers.jsonl holds answers of ben; here anna answers")
    assert page.answers() == [("i0", "related", "")]


def test_saving_nothing_makes_no_file(open_page: Open) -> None:
    page = open_page()
    page.press("s")
    assert page.text("#status") == "There are no answers to save yet."
    assert not page.browser.element("#message").is_displayed()
    page.press("1")
    assert len(page.saved()) == 1


# What is shown.


def test_every_text_is_shown_as_it_is_and_runs_nothing(open_page: Open) -> None:
    page = open_page(NASTY, context="<b>anna</b>: related")
    for text in NASTY:
        shown = "const shown = document.getElementById('text');"
        assert page.script(f"{shown} return shown.textContent === JSON.parse(arguments[0])", json.dumps(text)), text
        assert page.script(f"{shown} return shown.children.length") == 0
        assert page.text("#context-text") == "<b>anna</b>: related"
        page.press("1")
    assert page.script("return performance.getEntriesByType('resource').length") == 0
    page.click("#show-list")
    assert page.script("return document.querySelectorAll('#rows img, #rows script, #rows b').length") == 0
    assert page.text("#rows li:nth-child(2) .start") == NASTY[1]
    page.click("#close-list")
    assert len(page.saved()) == len(NASTY)


def test_the_page_s_policy_blocks_a_script_and_a_picture_that_get_into_it(open_page: Open) -> None:
    page = open_page()
    page.script("""
        const script = document.createElement("script");
        script.textContent = "document.title = 'run'";
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/x.png";
        document.body.append(script, image);""")
    assert page.browser.title != "run"
    complaints = until(page.browser.console)
    assert all("Content Security Policy" in complaint for complaint in complaints)
    assert len(complaints) == 2


@pytest.mark.parametrize("n_labels", [2, 12, 77])
@pytest.mark.parametrize("size", [WIDE, PHONE, LOW, ZOOMED])
def test_no_text_breaks_the_layout(open_page: Open, size: tuple[int, int], n_labels: int) -> None:
    labels = with_keys([Label(f"a label with a long name {n}", description="long " * 50) for n in range(n_labels)])
    page = open_page(NASTY, LabelSet("t", "Which of these? " * 5, "What it means. " * 300, labels), context="c " * 900)
    page.browser.show_as(size)
    page.load()  # measures at once, not with the next frame
    for _ in NASTY:
        whole = page.script(
            "const {scrollWidth, scrollHeight} = document.documentElement; return [scrollWidth, scrollHeight]"
        )
        scrolls = page.script("return document.body.classList.contains('scrolls')")
        assert whole == list(size) or (scrolls and size != WIDE and whole[0] <= size[0])
        assert page.script(VISIBLE_TEXT) >= min(60, page.browser.element("#text").rect["height"] - 1)
        for css in ("#question", "#text", "#labels", "#others", "#save"):
            box = page.browser.element(css).rect
            assert 0 <= box["x"] <= box["x"] + box["width"] <= size[0], css
        for css in () if scrolls else ("#question", "#labels", "#others", "#save"):
            box = page.browser.element(css).rect
            assert 0 <= box["y"] <= box["y"] + box["height"] <= size[1], css
        for css in ("#item", "#beside", "#context", "#definition", "footer"):
            assert page.script(
                f"const box = document.querySelector('{css}'); return box.scrollWidth <= box.clientWidth"
            ), css
        page.press(Keys.ARROW_RIGHT)
    page.click("#show-list")
    assert page.script(
        "return document.getElementById('rows').scrollWidth <= document.getElementById('rows').clientWidth"
    )


def test_buttons_are_big_enough_for_a_finger_on_a_phone(open_page: Open) -> None:
    page = open_page()
    page.browser.show_as(PHONE)
    for button in page.browser.find_elements("css selector", "nav button, footer button"):
        assert button.rect["height"] >= 44
        assert button.rect["width"] >= 44
    page.click("[data-answer=related]")
    page.click("[data-answer=skip]")
    assert [answer for _, answer, _ in page.answers()] == ["related", "skip"]


def test_the_direction_of_a_text_is_its_own(open_page: Open) -> None:
    page = open_page([NASTY[4], "left to right"])
    direction = "return getComputedStyle(document.getElementById('text')).direction"
    assert page.script(direction) == "rtl"
    page.press("1")
    assert page.script(direction) == "ltr"
    assert page.browser.element("#text").value_of_css_property("white-space-collapse") == "preserve"


def test_the_list_jumps_to_any_item_and_shows_and_filters_answers(open_page: Open) -> None:
    page = open_page()
    page.press("1", "u", "l")
    assert page.browser.switch_to.active_element.get_attribute("data-place") == "2", "the item in view"
    rows = page.browser.find_elements("css selector", "#rows li")
    assert [row.text.split("\n") for row in rows[1:3]] == [["2", "one", "unsure"], ["3", "two", "open"]]
    for shown, count in {"Open": 2, "Answered": 2, "unsure": 1, "related": 1, "not_related": 0, "All": 4}.items():
        page.choose(shown)
        assert page.rows() == count
    for sought, places in {"OnE": ["1"], "thr ": ["3"], "zéro": ["0"], "nowhere": []}.items():
        page.script("document.getElementById('search').select()")
        page.press(sought)
        assert [
            row.get_attribute("data-place") for row in page.browser.find_elements("css selector", "#rows button")
        ] == places
    page.press(Keys.CONTROL + "a", Keys.BACKSPACE)
    page.script("document.querySelector('#rows [data-place=\"2\"]').focus()")
    page.press(Keys.ARROW_DOWN, "1", Keys.ENTER)
    assert (page.place(), page.focused()) == ("Item 4 of 4", "item")
    assert page.text("#progress-text") == "2 of 4 answered"


def test_ten_thousand_items_open_and_the_list_has_them_all(open_page: Open) -> None:
    page = open_page([f"headline number {n}" for n in range(10_000)])
    page.press("1", "0")
    assert (page.text("#progress-text"), page.place()) == ("2 of 10,000 answered", "Item 3 of 10,000")
    page.click("#show-list")
    assert len(page.browser.find_elements("css selector", "#rows li")) == 10_000
    page.click("#rows [data-place='9']")
    assert page.place() == "Item 10 of 10,000"


# For everybody.


def test_everything_is_reached_with_tab_in_the_order_of_the_page(open_page: Open) -> None:
    page = open_page(context="anna: related")
    order = [page.focused()]
    for _ in range(16):
        page.press(Keys.TAB)
        order.append(page.focused())
    steps = ["item", "context", "definition", "related", "not_related", "back", "undo", "forward", "unsure", "skip"]
    assert order[:11] == [*steps, "note"]
    assert order[-5:] == ["show-list", "show-definition", "load", "copy", "save"]


def test_controls_and_panels_have_roles_and_names_that_a_screen_reader_says(open_page: Open) -> None:
    page = open_page(annotator="", context="anna: related")
    assert page.browser.element("#name-dialog").aria_role == "dialog"
    assert page.browser.element("#name-dialog").accessible_name == "Who answers?"
    assert page.browser.element("#name").accessible_name == "Your name"
    page.press("anna", Keys.ENTER)
    names = {css: page.browser.element(css).accessible_name for css in ("#item", "#context", "#definition", "#labels")}
    assert names == {"#item": "Item 1 of 4", "#context": "Answers so far", "#definition": "Definition",
                     "#labels": DISASTER.question}  # fmt: skip
    buttons = [b for b in page.browser.find_elements("css selector", "button, input[type=text]") if b.is_displayed()]
    assert [button.accessible_name.strip() for button in buttons] == [
        "Answers by anna, change", "Items", "Definition", "Load answers", "Copy answers", "Save answers",
        "related", "not_related", "Back", "Undo", "Forward", "Unsure", "Skip", "Note",
    ]  # fmt: skip
    assert page.browser.element("#progress").aria_role == "progressbar"
    assert page.browser.element("html").get_attribute("lang") == "en"
    assert page.browser.element("#live").get_attribute("aria-live") == "polite"


def test_each_step_is_said_aloud_what_was_answered_and_what_is_asked_next(open_page: Open) -> None:
    page = open_page(context="ben: skip")
    page.press("1")
    assert page.text("#live") == "Item 1: related. Item 2 of 4: one. Answers so far: ben: skip"
    page.press("2")
    assert page.text("#live").strip() == "Item 1 of 4 · now: related: zero. Answers so far: ben: skip"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, PHONE, ZOOMED])
def test_axe_finds_no_barrier_in_any_state_of_the_page(open_page: Open, size: tuple[int, int], dark: bool) -> None:
    labels = with_keys([Label(f"label {n}", description="What it means.") for n in range(13)])
    label_set = LabelSet("t", "Which?", "What it means.", labels, highlight=("flood",))
    page = open_page([NASTY[4], "flood " * 300], label_set, annotator="", context="ben: skip")
    page.browser.show_as(size, dark=dark)
    states = {
        "name": lambda: None,
        "item": lambda: page.press("anna", Keys.ENTER),
        "definition": lambda: page.click("#show-definition"),
        "answered": lambda: page.press("1", "2"),
        "narrowed": lambda: page.press("/", "label 1"),
        "list": lambda: page.press(Keys.ESCAPE) or page.click("#show-list"),
        "end": lambda: page.press(Keys.ESCAPE) or page.press("1", "1", Keys.ARROW_RIGHT),
        "saved": lambda: page.press("s"),
    }
    for state, enter in states.items():
        enter()
        assert (state, page.browser.barriers()) == (state, [])


def test_with_forced_colours_and_reduced_motion_states_are_seen_and_nothing_moves(open_page: Open) -> None:
    page = open_page()
    media = [{"name": "forced-colors", "value": "active"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    page.load()
    page.press("1", "2")
    look = "const style = getComputedStyle(document.querySelector(arguments[0])); return style[arguments[1]]"
    pressed, other = (page.script(look, f"[data-answer={name}]", "backgroundColor") for name in DISASTER.names)
    assert pressed != other
    assert page.script(look, "#item", "outlineStyle") == "solid"
    assert page.script(look, "#item", "borderStyle") == "solid"
    assert page.script("return document.getAnimations().length") == 0
