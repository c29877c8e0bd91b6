"""A batch as a web page: one file that opens with a double click and saves the answers as a journal."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.csv_file import as_unicode, filled_row
from annotation.formats.journal import JournalLine, read_journal
from annotation.label_set import Handout

TEMPLATE = Path(__file__).with_name("web_page.html")

_INLINE = {"style": r"<style>(.*?)</style>", "script": r'<script type="module">(.*?)</script>'}
_ESCAPED = {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"}


def write_web_page(path: Path, handout: Handout) -> None:
    """Write a batch as one self-contained HTML file that needs no server or network.

    Raises:
        OSError: It cannot be written.
    """
    # UTF-8 cannot encode a lone surrogate in the question; browsers show its character reference as U+FFFD.
    path.write_text(web_page(handout), encoding="utf-8", errors="xmlcharrefreplace", newline="\n")


def web_page(handout: Handout) -> str:
    """Render the page of a batch.

    The template escapes question, definition and label names; the items are embedded as JSON, so no text can be
    markup. The Content-Security-Policy allows only the page's own script and style.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = TEMPLATE.read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(
        batch_id=handout.batch_id,
        label_set=handout.label_set,
        hashes={name: _csp_hash(re.findall(pattern, source, re.DOTALL)) for name, pattern in _INLINE.items()},
        handout=Markup(embedded_json(_for_script(handout))),
    )


def embedded_json(value: Any) -> str:
    """Serialize to ASCII JSON that is safe inside HTML; it parses back to `value`, including lone surrogates.

    >>> print(embedded_json("</script> & \\u2028"))
    "\\u003c/script\\u003e \\u0026 \\u2028"
    """
    return re.sub("[<>&]", lambda match: _ESCAPED[match[0]], json.dumps(value, separators=(",", ":"), allow_nan=False))


def read_answers(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Read the journal that a page or a terminal session saved.

    Args:
        batch_id: Unused; each line names its batch.

    Raises:
        BatchError: The file cannot be read, or a line is malformed.
    """
    del batch_id
    return [_answered(line) for line in read_journal(path)]


def _answered(line: JournalLine) -> FilledRow:
    answer = line.answer
    cells = {
        "label": answer.answer,
        "note": answer.note,
        "annotator": answer.annotator,
        "item_id": answer.item_id,
        "batch_id": line.batch_id,
        "text_hash": line.text_hash,
        **({"workspace_id": line.workspace_id} if line.workspace_id else {}),
    }
    cells = {name: as_unicode(cell) for name, cell in cells.items()}
    row = filled_row(line.row, cells, line.batch_id)
    return replace(row, text=None, seconds=answer.seconds, annotated_at=answer.annotated_at, is_logged=True)


def storage_key(handout: Handout) -> str:
    """The key for answers in a browser's storage, distinct for each workspace, batch and annotator."""
    parts = (handout.annotator, *(part for item in handout.items for part in (item.item_id, item.text_hash)))
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"pal {handout.batch_id} {digest}"


def _for_script(handout: Handout) -> dict[str, Any]:
    labels = [{"name": label.name, "key": label.key, "default": label.default} for label in handout.label_set.labels]
    items = [
        {
            "item_id": item.item_id,
            "text": item.text,
            "text_hash": item.text_hash,
            "context": item.context,
            "columns": item.columns,
        }
        for item in handout.items
    ]
    return {
        "batch_id": handout.batch_id,
        "workspace_id": handout.workspace_id,
        "annotator": handout.annotator,
        "storage_key": storage_key(handout),
        "labels": labels,
        "highlight": handout.label_set.highlight,
        "items": items,
    }


def _csp_hash(blocks: list[str]) -> str:
    """The hash of the template's one inline block, in the form of a Content-Security-Policy."""
    (block,) = blocks
    return f"sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode('ascii')}"
