"""Cells of workbooks from anywhere: what they show, whichever of the many ways a program wrote them in."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from annotation.formats import sheet_cells
from annotation.formats.sheet_cells import Sheet, read_sheets
from storage.errors import BatchError

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STRICT = ("http://purl.oclc.org/ooxml/spreadsheetml/main", "http://purl.oclc.org/ooxml/officeDocument/relationships")
DATES = """<numFmts count="1"><numFmt numFmtId="164" formatCode="dd/mm/yyyy hh:mm"/></numFmts>
<cellStyleXfs><xf numFmtId="14"/><xf numFmtId="14"/></cellStyleXfs>
<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="49"/><xf numFmtId="20"/><xf/></cellXfs>
<dxfs><dxf><numFmt numFmtId="0" formatCode="yyyy"/></dxf></dxfs>"""


def rels(related: str, **targets: str) -> str:
    entries = [
        f'<Relationship Id="{i}" Type="{related}/{t.partition(" ")[0]}" Target="{t.partition(" ")[2]}"/>'
        for i, t in targets.items()
    ]
    return f"<Relationships>{''.join(entries)}</Relationships>"


def workbook(
    path: Path,
    *sheets: str,
    strings: str = "",
    styles: str = DATES,
    settings: str = "",
    main: str = MAIN,
    related: str = RELATED,
) -> Path:
    """A workbook of sheets whose rows are given as XML."""
    named = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="s{n}"/>' for n in range(1, len(sheets) + 1))
    named = f"{settings}<sheets>{named}</sheets>"
    targets = {f"s{n}": f"worksheet worksheets/sheet{n}.xml" for n in range(1, len(sheets) + 1)}
    targets |= {"x1": "sharedStrings sharedStrings.xml", "x2": "styles styles.xml"}
    parts = {
        "_rels/.rels": rels(related, r1="officeDocument xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{related}">{named}</workbook>',
        "xl/_rels/workbook.xml.rels": rels(related, **targets),
        "xl/sharedStrings.xml": f'<sst xmlns="{main}">{strings}</sst>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}">{styles}</styleSheet>',
    }
    for number, rows in enumerate(sheets, start=1):
        data = f'<dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData><extLst><ext><f>A1</f></ext></extLst>'
        parts[f"xl/worksheets/sheet{number}.xml"] = f'<worksheet xmlns="{main}">{data}</worksheet>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def shown(tmp_path: Path, cell: str, strings: str = "", settings: str = "") -> str:
    """What the one cell of a workbook shows."""
    rows = f'<row r="1"><c r="A1" t="str"><v>first</v></c>{cell}</row>'
    (sheet,) = read_sheets(workbook(tmp_path / "w.xlsx", rows, strings=strings, settings=settings))
    return sheet.rows[1].get(2, "")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('<c r="B1"><v>1</v></c>', "1"),
        ('<c r="B1"><v>284006.0</v></c>', "284006"),
        ('<c r="B1"><v>2.84006E+5</v></c>', "284006"),
        ('<c r="B1"><v>1.2345678901234568E+17</v></c>', "1.23456789012346e+17"),
        ('<c r="B1"><v>123456789012345678</v></c>', "1.23456789012346e+17"),
        ('<c r="B1"><v>999999999999999</v></c>', "999999999999999"),
        ('<c r="B1"><v>0.1</v></c>', "0.1"),
        ('<c r="B1"><v>0.30000000000000004</v></c>', "0.3"),
        ('<c r="B1"><v>-7</v></c>', "-7"),
        ('<c r="B1" t="n"><v>1</v></c>', "1"),
        ('<c r="B1" t="b"><v>1</v></c>', "TRUE"),
        ('<c r="B1" t="b"><v>0</v></c>', "FALSE"),
        ('<c r="B1" t="e"><v>#N/A</v></c>', "#N/A"),
        ('<c r="B1" t="e"><f>1/0</f><v>#DIV/0!</v></c>', "#DIV/0!"),
        ('<c r="B1" t="str"><f>"rel"&amp;"ated"</f><v>related</v></c>', "related"),
        ('<c r="B1" t="str"><f>""</f><v></v></c>', ""),
        ('<c r="B1"><f>1+1</f><v>2</v></c>', "2"),
        ('<c r="B1"><f>1+1</f></c>', "=1+1"),
        ('<c r="B1"><f>1+1</f><v/></c>', "=1+1"),
        ('<c r="B1"><f t="shared" si="0"/></c>', "="),
        ('<c r="B1" t="inlineStr"><is><t>related</t></is></c>', "related"),
        ('<c r="B1" t="inlineStr"><is><r><t>rel</t></r><r><rPr><b/></rPr><t>ated</t></r></is></c>', "related"),
        ('<c r="B1" t="inlineStr"><is><t xml:space="preserve"> a </t></is></c>', " a "),
        ('<c r="B1" t="inlineStr"><is><t>a&lt;&amp;&#10;b&#13;</t></is></c>', "a<&\nb\r"),
        ('<c r="B1" t="inlineStr"><is><t>a_x000D_b</t></is></c>', "a\rb"),
        ('<c r="B1" t="inlineStr"><is><t>a_x005F_x000D_b</t></is></c>', "a_x000D_b"),
        ('<c r="B1" t="inlineStr"><is><t>_x005F_x000D_x005F_x000D_</t></is></c>', "_x000D_x000D_"),
        ('<c r="B1" t="inlineStr"><is><t>x005F_ _x00 _X000D_</t></is></c>', "x005F_ _x00 _X000D_"),
        ('<c r="B1" t="inlineStr"><is><t>_xD83D_</t></is></c>', "\ufffd"),
        ('<c r="B1" t="inlineStr"/>', ""),
        ('<c r="B1"/>', ""),
        ('<c r="B1"><v/></c>', ""),
        ('<c r="B1" t="d"><v>2026-01-02</v></c>', "2026-01-02"),
        ('<c r="B1" s="1"><v>46024</v></c>', "2026-01-02"),
        ('<c r="B1" s="2"><v>46024.5</v></c>', "2026-01-02T12:00:00"),
        ('<c r="B1" s="4"><v>0.5</v></c>', "12:00:00"),
        ('<c r="B1" s="1"><v>1</v></c>', "1900-01-01"),
        ('<c r="B1" s="1"><v>99999999999</v></c>', "99999999999"),
        ('<c r="B1" s="3"><v>46024</v></c>', "46024"),
        ('<c r="B1" s="5"><v>46024</v></c>', "46024"),
        ('<c r="B1" s="99"><v>46024</v></c>', "46024"),
        ("<c><v>5</v></c>", "5"),
        ('<c t="s"><v>1</v></c>', "two"),
    ],
)
def test_a_cell_is_what_it_shows(tmp_path: Path, cell: str, text: str) -> None:
    assert shown(tmp_path, cell, "<si><t>one</t></si><si><t>two</t></si>") == text


def test_shared_strings_are_counted_also_where_they_are_empty_or_of_pieces(tmp_path: Path) -> None:
    strings = "<si/><si><t/></si><si><r><t>a </t></r><r><t>b</t></r><rPh><t>A</t></rPh></si><si><t>_x0041_</t></si>"
    assert [shown(tmp_path, f'<c r="B1" t="s"><v>{n}</v></c>', strings) for n in range(4)] == ["", "", "a b", "A"]


def test_days_are_counted_from_1904_where_the_workbook_says_so(tmp_path: Path) -> None:
    cell = '<c r="B1" s="1"><v>46024</v></c>'
    assert shown(tmp_path, cell, settings='<workbookPr date1904="1"/>') == "2030-01-03"
    assert shown(tmp_path, cell, settings='<workbookPr date1904="0"/>') == "2026-01-02"


def test_rows_and_columns_are_numbered_as_in_a_spreadsheet_with_or_without_saying_so(tmp_path: Path) -> None:
    rows = """<row r="3" hidden="1"><c r="C3"><v>1</v></c><c r="AA3"><v>2</v></c></row><row r="4"/>
        <row><c><v>3</v></c><c/><c><v>4</v></c></row><row r="9.0"><c r="XFD9"><v>5</v></c></row>"""
    (sheet,) = read_sheets(workbook(tmp_path / "w.xlsx", rows))
    assert sheet.rows == {3: {3: "1", 27: "2"}, 5: {1: "3", 3: "4"}, 9: {16384: "5"}}


def test_every_sheet_is_read_by_its_name_in_the_order_of_the_tabs(tmp_path: Path) -> None:
    one, two = '<row r="1"><c r="A1"><v>1</v></c></row>', '<row r="2"><c r="B2"><v>2</v></c></row>'
    path = workbook(tmp_path / "w.xlsx", one, two, "")
    assert read_sheets(path) == [Sheet("S1", {1: {1: "1"}}), Sheet("S2", {2: {2: "2"}}), Sheet("S3", {})]


def test_strict_open_xml_and_names_with_a_prefix_are_read(tmp_path: Path) -> None:
    rows = '<row r="1"><c r="A1" t="s"><v>0</v></c></row>'
    path = workbook(tmp_path / "w.xlsx", rows, strings="<si><t>one</t></si>", main=STRICT[0], related=STRICT[1])
    assert read_sheets(path) == [Sheet("S1", {1: {1: "one"}})]
    rows = f'<x:row xmlns:x="{MAIN}" r="1"><x:c r="A1" t="inlineStr"><x:is><x:t>one</x:t></x:is></x:c></x:row>'
    assert read_sheets(workbook(tmp_path / "w.xlsx", rows)) == [Sheet("S1", {1: {1: "one"}})]


def test_a_sheet_of_a_chart_is_passed_over_and_a_workbook_of_nothing_else_told(tmp_path: Path) -> None:
    path = workbook(tmp_path / "w.xlsx")
    with pytest.raises(BatchError, match=r"w\.xlsx"):
        read_sheets(path)


@pytest.mark.parametrize(
    "rows",
    [
        '<row r="1"><c r="A1" t="s"><v>7</v></c></row>',
        '<row r="1"><c r="A1"><v>one</v></c></row>',
        '<row r="x"><c r="A1"><v>1</v></c></row>',
        '<row r="1"><c r="XFE1"><v>1</v></c></row>',
        '<row r="1"><c r="a1"><v>1</v></c></row>',
        '<row r="1"><c r="ZZZZZZZZZ1"><v>1</v></c></row>',
        '<row r="1e999"><c><v>1</v></c></row>',
    ],
)
def test_what_cannot_stand_in_a_sheet_is_damage_and_no_crash(tmp_path: Path, rows: str) -> None:
    with pytest.raises(BatchError, match=r"w\.xlsx"):
        read_sheets(workbook(tmp_path / "w.xlsx", rows))


def test_a_format_down_to_the_last_row_costs_little(tmp_path: Path) -> None:
    blank = "".join(f'<row r="{row}"><c r="A{row}" s="3"/><c r="G{row}" s="3"/></row>' for row in range(2, 200_000))
    rows = f'<row r="1"><c r="A1"><v>1</v></c></row>{blank}<row r="1048576"><c r="A1048576"><v>2</v></c></row>'
    (sheet,) = read_sheets(workbook(tmp_path / "w.xlsx", rows))
    assert sheet.rows == {1: {1: "1"}, 1048576: {1: "2"}}


def test_more_text_than_a_batch_can_have_is_told_also_where_all_cells_share_one_string(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet_cells, "MAX_KEPT", 1_000_000)
    rows = '<row><c t="s"><v>0</v></c></row>'
    strings = f"<si><t>{escape('x' * 30_000)}</t></si>"
    assert len(read_sheets(workbook(tmp_path / "w.xlsx", rows * 30, strings=strings))[0].rows) == 30
    with pytest.raises(BatchError, match=r"w\.xlsx"):
        read_sheets(workbook(tmp_path / "w.xlsx", rows * 40, strings=strings))
    with pytest.raises(BatchError, match=r"w\.xlsx"):
        read_sheets(workbook(tmp_path / "w.xlsx", "<row><c><v>1</v></c></row>" * 10_001))
