"""The agreement of annotators for a terminal: aligned blocks, those who agree least first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill

from annotation.agreement import OVERALL, Agreement, AnnotatorAgreement, PairAgreement
from storage.records import Metric

MOST_PAIRS = 20
"""Pairs that the text shows; the table has all."""
MOST_CONFUSIONS = 3
"""Of one annotator, that the text shows; the table has all."""
WIDTH = 100


def agreement_text(found: Agreement) -> str:
    """The figures for a terminal of 80 to 100 columns, in aligned blocks; the pairs that agree least come first."""
    unsure = "left out" if found.unsure == "missing" else "counted as a category"
    rarest = min(found.shares, key=lambda name: found.shares[name])
    pairs = sorted((pair for pair in found.pairs if pair.n), key=lambda pair: pair.percent.value or 0.0)
    of_pair = ("pair", "", "items", "percent", "Cohen kappa", "Gwet AC1")
    of_annotator = ("annotator", "answers", "unsure", "as most others", "items", "right on gold", "items", "median s")
    blocks = [
        f"Annotators {len(found.annotators)}, answers {found.n_answers}, items {found.n_items}, of them with two or "
        f"more answers that count {found.n_several}.\nUnsure {_percent(found.unsure_share)} of the answers, {unsure}.",
        "\n".join(f"{OVERALL[each.name]:<20}{_figure(each, 3, f'undefined: {each.reason}')}" for each in found.overall),
        f"Kappa and alpha are low where a label is rare (here {_printable(rarest)}, {_percent(found.shares[rarest])}), "
        "even if people agree: see AC1.",
        _aligned(of_pair, map(_pair_row, pairs[:MOST_PAIRS]), n_names=2),
        f"{MOST_PAIRS} of {len(pairs)} pairs, those that agree least." if len(pairs) > MOST_PAIRS else "",
        _aligned(of_annotator, map(_annotator_row, found.annotators), n_names=1),
        "\n".join(line for each in found.annotators for line in _confusions(each)),
        "\n".join(fill(note, WIDTH) for note in found.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _aligned(header: Sequence[str], rows: Iterable[Sequence[str]], n_names: int) -> str:
    """Columns as wide as their cells; the first `n_names` to the left, and cut off where a line would be too long."""
    from rich.cells import cell_len, set_cell_size

    lines = [header, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    room = WIDTH - sum(2 + width for width in widths[n_names:])
    widths[:n_names] = [min(width, max(8, room // n_names - 2)) for width in widths[:n_names]]

    def laid(number: int, cell: str) -> str:
        width = widths[number]
        if number >= n_names:
            return cell.rjust(width)
        return set_cell_size(cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…", width)

    laid_out = ("  ".join(laid(number, cell) for number, cell in enumerate(line)).rstrip() for line in lines)
    return "\n".join(laid_out) if len(lines) > 1 else ""


def _pair_row(pair: PairAgreement) -> tuple[str, ...]:
    figures = (_figure(each, 2, "-") for each in (pair.percent, pair.kappa, pair.ac1))
    return _printable(pair.first), _printable(pair.second), str(pair.n), *figures


def _annotator_row(each: AnnotatorAgreement) -> tuple[str, ...]:
    return (
        _printable(each.annotator),
        str(each.n_answers),
        _percent(each.unsure_share),
        _figure(each.with_others, 2, "-"),
        str(each.n_compared),
        _figure(each.gold, 2, "-"),
        str(each.n_gold),
        "-" if each.median_s is None else f"{each.median_s:.1f}",
    )


def _confusions(each: AnnotatorAgreement) -> Iterator[str]:
    cells = [
        (n, label, answer, sum(row.values()))
        for label, row in each.confusion.items()
        for answer, n in row.items()
        if n and answer != label
    ]
    for n, label, answer, of in sorted(cells, key=lambda cell: -cell[0])[:MOST_CONFUSIONS]:
        yield f"{_printable(each.annotator)} answered {answer} to {n} of {of} items that are {label}."


def _figure(metric: Metric, digits: int, undefined: str) -> str:
    if metric.value is None:
        return undefined
    interval = f" [{metric.low:.{digits}f}, {metric.high:.{digits}f}]" if metric.low is not None else ""
    return f"{metric.value:.{digits}f}{interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in name)
