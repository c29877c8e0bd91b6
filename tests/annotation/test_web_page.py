"""The web page as a file: it holds exactly the items, nothing of them is markup, and only its own script may run."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.formats.web_page import TEMPLATE, embedded_json, storage_key, web_page, write_web_page
from annotation.label_set import Handout, Label, LabelSet
from storage.records import BatchItem
from tasks.config.template import DISASTER

NASTY = [
    "</script>", "<script>alert(1)</script>", '"', "&lt;", "<!--", "]]>", "\u2028\u2029", "\x00", "\ud800",
    "{{ 7*7 }}",
]  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec=None), max_size=40))
items = st.lists(st.builds(BatchItem, texts, texts, texts, texts), max_size=5)


class Parsed(HTMLParser):
    """Every tag of a page in order, and the text inside the script of items."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._embeds = False
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.embedded = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._embeds = ("id", "handout") in attrs

    def handle_data(self, data: str) -> None:
        if self._embeds:
            self.embedded += data

    def handle_endtag(self, tag: str) -> None:
        self._embeds = False


def handout_of(*items: BatchItem, label_set: LabelSet = DISASTER, annotator: str = "") -> Handout:
    return Handout("b0001", label_set, items, annotator)


@settings(max_examples=60)
@given(items, texts, texts)
def test_the_items_come_back_from_the_file_and_nothing_of_them_is_markup(
    tmp_path_factory: pytest.TempPathFactory, given: list[BatchItem], annotator: str, question: str
) -> None:
    labels = replace(DISASTER, question=question, definition=question)
    path = tmp_path_factory.getbasetemp() / "page.html"
    write_web_page(path, handout_of(*given, label_set=labels, annotator=annotator))
    parsed = Parsed(path.read_bytes().decode("utf-8"))
    embedded = json.loads(parsed.embedded)
    assert [BatchItem(**item | {"columns": ()}) for item in embedded["items"]] == given
    assert embedded["annotator"] == annotator
    assert parsed.tags == Parsed(web_page(handout_of())).tags


@given(texts)
def test_embedded_json_is_ascii_without_markup_and_parses_back(text: str) -> None:
    written = embedded_json({"text": text})
    assert written.isascii()
    assert not set("<>&\n\x00") & set(written)
    assert json.loads(written) == {"text": text}


def test_the_file_is_utf_8_with_unix_line_ends_and_only_ascii_for_items(tmp_path: Path) -> None:
    write_web_page(tmp_path / "page.html", handout_of(BatchItem("i1", "Zoë 🔥\r\n\u2028", "h")))
    content = (tmp_path / "page.html").read_bytes()
    assert b"\r" not in content
    assert rb"Zo\u00eb \ud83d\udd25\r\n\u2028" in content


def test_only_the_page_s_own_script_and_style_may_run_and_nothing_is_loaded() -> None:
    page = web_page(handout_of(BatchItem("i1", "text", "h")))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy).split(";"))
    for name, pattern in {
        "style-src": r"<style>(.*?)</style>",
        "script-src": r'<script type="module">(.*?)</script>',
    }.items():
        (block,) = re.findall(pattern, page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    names = {name for name, _ in Parsed(page).attributes}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src", "href", "action")}
    assert not re.findall(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def test_the_question_the_definition_and_the_labels_stand_in_the_page_as_written() -> None:
    labels = (Label("<b>", "<", default=True), Label('"quoted"_<i>', '"', description='"</dd>"'))
    page = web_page(handout_of(label_set=LabelSet("t", "Is 1 < 2 & 3?", "line\n<i>two</i>", labels)))
    assert "Is 1 &lt; 2 &amp; 3?</h1>" in page
    assert "line\n&lt;i&gt;two&lt;/i&gt;</p>" in page
    assert 'data-answer="&lt;b&gt;" aria-label="&lt;b&gt;" aria-pressed="false" aria-keyshortcuts="&lt; Enter"' in page
    assert 'data-answer="&#34;quoted&#34;_&lt;i&gt;"' in page
    assert "<span>&#34;quoted&#34;_<wbr>&lt;i&gt;</span>" in page
    assert '<dd id="means-1" class="written">&#34;&lt;/dd&gt;&#34;</dd>' in page


def test_the_definition_is_offered_where_there_is_one_or_a_label_has_a_description() -> None:
    bare = replace(DISASTER, definition="")
    described = replace(bare, labels=(*DISASTER.labels[:1], replace(DISASTER.labels[1], description="d")))
    for label_set, is_hidden in ((DISASTER, False), (described, False), (bare, True)):
        (attributes,) = re.findall(
            r'<button [^>]*id="show-definition"([^>]*)>', web_page(handout_of(label_set=label_set))
        )
        assert (" hidden" in attributes) is is_hidden


def test_a_browser_keeps_the_answers_of_two_workspaces_or_annotators_apart() -> None:
    item = BatchItem("i1", "text", "h1")
    key = storage_key(handout_of(item))
    assert re.fullmatch(r"pal b0001 [0-9a-f]{16}", key)
    assert storage_key(handout_of(replace(item, text="shown otherwise", context="more"))) == key
    others = [handout_of(), handout_of(replace(item, item_id="i2")), handout_of(replace(item, text_hash="h2"))]
    others += [handout_of(item, annotator="anna"), handout_of(item, annotator="ben"), handout_of(item, item)]
    others += [handout_of(BatchItem("i1h", "text", "1"))]
    assert len({key, *map(storage_key, others)}) == 8


def colours(scheme: str) -> dict[str, str]:
    css = TEMPLATE.read_text(encoding="utf-8")
    start = css.index("@media (prefers-color-scheme: dark)") if scheme == "dark" else css.index(":root")
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css[start : start + 600].split("}")[0]))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: 1 (the same) to 21 (black on white)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_the_edges_of_controls_have_the_contrast_that_wcag_aa_asks(scheme: str) -> None:
    colour = colours(scheme)
    for text, ground in [
        ("ink", "paper"), ("ink", "card"), ("ink", "soft"), ("quiet", "paper"), ("quiet", "card"), ("quiet", "soft"),
        ("accent", "card"), ("accent", "soft"), ("on-accent", "accent"), ("on-alarm", "alarm"), ("ink", "mark"),
    ]:  # fmt: skip
        assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for edge, ground in [("edge", "card"), ("edge", "paper"), ("accent", "paper"), ("accent", "card")]:
        assert contrast(colour[edge], colour[ground]) >= 3, (edge, ground)
