"""Workbooks from anywhere: what their cells show, whichever way a program wrote them, and no file does any harm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pytest

from storage.errors import SourceError
from storage.readers.opening import open_source
from storage.readers.sheets import Sheet, WorkbookReader

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DATES = """<numFmts count="1"><numFmt numFmtId="164" formatCode="dd/mm/yyyy hh:mm"/></numFmts>
<cellStyleXfs><xf numFmtId="14"/><xf numFmtId="14"/></cellStyleXfs>
<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="49"/><xf numFmtId="20"/><xf/></cellXfs>
<dxfs><dxf><numFmt numFmtId="0" formatCode="yyyy"/></dxf></dxfs>"""


@pytest.fixture(scope="module")
def reader() -> WorkbookReader:
    """One process for all files, as a command has it; it outlives every file that it refuses."""
    return WorkbookReader()


def rels(**targets: str) -> str:
    entries = [
        f'<Relationship Id="{i}" Type="{RELATED}/{t.partition(" ")[0]}" Target="{t.partition(" ")[2]}"/>'
        for i, t in targets.items()
    ]
    return f"<Relationships>{''.join(entries)}</Relationships>"


def workbook(path: Path, *sheets: str, strings: str = "", settings: str = "", **more: str) -> Path:
    """A workbook of sheets whose rows are given as XML, with more parts."""
    named = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="s{n}"/>' for n in range(1, len(sheets) + 1))
    named = f"{settings}<sheets>{named}</sheets>"
    targets = {f"s{n}": f"worksheet worksheets/sheet{n}.xml" for n in range(1, len(sheets) + 1)}
    targets |= {"x1": "sharedStrings sharedStrings.xml", "x2": "styles styles.xml"}
    parts = {
        "_rels/.rels": rels(r1="officeDocument xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELATED}">{named}</workbook>',
        "xl/_rels/workbook.xml.rels": rels(**targets),
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}">{DATES}</styleSheet>',
    } | more
    for number, rows in enumerate(sheets, start=1):
        data = f'<dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData>'
        parts[f"xl/worksheets/sheet{number}.xml"] = f'<worksheet xmlns="{MAIN}">{data}</worksheet>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('<c r="B1"><v>1</v></c>', "1"),
        ('<c r="B1"><v>284006.0</v></c>', "284006"),
        ('<c r="B1"><v>1.2345678901234568E+17</v></c>', "123456789012345680"),
        ('<c r="B1"><v>999999999999999</v></c>', "999999999999999"),
        ('<c r="B1"><v>0.30000000000000004</v></c>', "0.3"),
        ('<c r="B1" t="b"><v>1</v></c>', "TRUE"),
        ('<c r="B1" t="e"><f>1/0</f><v>#DIV/0!</v></c>', "#DIV/0!"),
        ('<c r="B1" t="str"><f>"rel"&amp;"ated"</f><v>related</v></c>', "related"),
        ('<c r="B1" t="str"><f>""</f><v></v></c>', ""),
        ('<c r="B1"><f>1+1</f><v>2</v></c>', "2"),
        ('<c r="B1"><f>1+1</f></c>', "=1+1"),
        ('<c r="B1"><f t="shared" si="0"/></c>', "="),
        ('<c r="B1" t="inlineStr"><is><r><t>rel</t></r><r><rPr><b/></rPr><t>ated</t></r></is></c>', "related"),
        ('<c r="B1" t="inlineStr"><is><t xml:space="preserve"> a </t></is></c>', " a "),
        ('<c r="B1" t="inlineStr"><is><t>a_x000D_b</t></is></c>', "a\rb"),
        ('<c r="B1" t="inlineStr"><is><t>a_x005F_x000D_b</t></is></c>', "a_x000D_b"),
        ('<c r="B1"/>', ""),
        ('<c r="B1" s="1"><v>46024</v></c>', "2026-01-02"),
        ('<c r="B1" s="2"><v>46024.5</v></c>', "2026-01-02T12:00:00"),
        ('<c r="B1" s="4"><v>0.5</v></c>', "12:00:00"),
        ('<c r="B1" s="99"><v>46024</v></c>', "46024"),
        ('<c t="s"><v>1</v></c>', "two"),
    ],
)
def test_a_cell_is_what_it_shows(tmp_path: Path, reader: WorkbookReader, cell: str, text: str) -> None:
    rows = f'<row r="1"><c r="A1" t="str"><v>first</v></c>{cell}<c r="C1"><v>3</v></c></row>'
    strings = "<si><t>one</t></si><si><r><t>tw</t></r><r><t>o</t></r><rPh><t>TWO</t></rPh></si>"
    (sheet,) = reader.sheets(workbook(tmp_path / "w.xlsx", rows, strings=strings))
    assert sheet.rows[1][1] == text
    assert sheet.formulas == ({(1, 2)} if text.startswith("=") else set())


def test_rows_columns_and_sheets_are_numbered_and_named_as_in_a_spreadsheet(
    tmp_path: Path, reader: WorkbookReader
) -> None:
    rows = """<row r="3" hidden="1"><c r="B3"><v>1</v></c><c r="D3"><v>2</v></c></row><row r="4"/>
        <row><c><v>3</v></c><c/><c><v>4</v></c></row><row r="9"><c r="E9"><f>1+1</f></c></row>"""
    date = '<row r="1"><c r="A1" s="1"><v>46024</v></c></row>'
    path = workbook(tmp_path / "w.xlsx", rows, date, settings='<workbookPr date1904="1"/>')
    found = {3: ["", "1", "", "2"], 5: ["3", "", "4"], 9: ["", "", "", "", "=1+1"]}
    assert reader.sheets(path) == [
        Sheet("S1", False, found, frozenset({(9, 5)})),
        Sheet("S2", False, {1: ["2030-01-03"]}, frozenset()),
    ]


def test_cells_that_are_merged_downwards_all_show_the_same(tmp_path: Path, reader: WorkbookReader) -> None:
    made = openpyxl.Workbook()
    sheet = made.worksheets[0]
    for row in (["Headlines of 2026", None], ["text", "label"], ["a b", "yes"], ["c d", None], ["e f", "no"]):
        sheet.append(row)
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("B3:B4")
    made.save(tmp_path / "w.xlsx")
    rows = reader.sheets(tmp_path / "w.xlsx")[0].rows
    assert list(rows.values()) == [
        ["Headlines of 2026"],
        ["text", "label"],
        ["a b", "yes"],
        ["c d", "yes"],
        ["e f", "no"],
    ]


def test_a_workbook_is_a_file_of_texts_and_what_is_not_read_is_said(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    sheet, other = made.worksheets[0], made.create_sheet("old")
    for row in (["Headlines"], [], ["id", "text", "n"], [1.0, "a b", 1], [2, "=A1", 2], [None, None, None], [3, "", 3]):
        sheet.append(row)
    other.append(["x"])
    made.save(tmp_path / "w.xlsx")
    source = open_source(tmp_path / "w.xlsx")
    assert source.description == "Excel workbook, sheet 'Sheet', header; text 'text', id 'id', no date"
    assert (len(source.layout.notes), source.layout.unused) == (2, ["n"])
    (chunk,) = source.chunks()
    assert [(row["row"], row["item_id"], row["text"]) for row in chunk.table.to_pylist()] == [(4, "1", "a b")]
    assert [reject.row for reject in chunk.rejects] == [5, 7]


OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
CELLS = '<row r="1"><c r="A1"><v>1</v></c></row>'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}, "(.ods)"),
        ({"Index/Document.iwa": "x"}, "Numbers"),
        ({"xl/workbook.bin": "x"}, "(.xlsb)"),
        ({"xl/vbaProject.bin": "x"}, "(.xlsm)"),
        ({"word/document.xml": "x"}, "Word"),
        ({"xl/workbook.xml": "<a>"}, "damaged"),
        ({"xl/styles.xml": '<!DOCTYPE a [<!ENTITY x "lol">]><a>&x;</a>'}, "DOCTYPE"),
        ({"xl/workbook.xml": "<workbook/>"}, "no worksheet"),
        (OLE2 + "Workbook".encode("utf-16-le"), "(.xls)"),
        (OLE2 + "EncryptedPackage".encode("utf-16-le"), "password"),
        (b"PK\x03\x04" + bytes(60), "damaged"),
        (b"text,label\r\n", "not a workbook"),
    ],
)
def test_what_is_no_workbook_is_told(
    tmp_path: Path, reader: WorkbookReader, content: bytes | dict[str, str], what: str
) -> None:
    path = tmp_path / "f.xlsx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        workbook(path, CELLS, **content)
    with pytest.raises(SourceError) as caught:
        reader.sheets(path)
    assert what in caught.value.what
    assert reader.sheets(workbook(tmp_path / "good.xlsx", CELLS))[0].rows == {1: ["1"]}


def bombs() -> dict[str, tuple[str, str]]:
    """Rows and shared strings of files that are small and want much memory or time."""
    corners = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    long = f"<si><t>{'flood ' * 150_000}</t></si>"
    return {
        "repeated cells": ("<row>" + "<c><v>1</v></c>" * 16_000 * 80 + "</row>", ""),
        "far corners": (corners, ""),
        "one string in many cells": ("".join('<row><c t="s"><v>0</v></c></row>' for _ in range(20_000)), long),
        "blank parts": ("<row>" + " " * 40_000_000 + "</row>", ""),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    rows, strings = bombs()[name]
    path = workbook(tmp_path / "w.xlsx", rows, strings=strings)
    reader = WorkbookReader()
    with pytest.raises(SourceError):
        reader.sheets(path)
    assert peak_mb(reader) < 100


def peak_mb(reader: WorkbookReader) -> float:
    """The most memory that the process had; 0 where it died of wanting more than it may have."""
    process = reader._process
    if process is None or not Path(f"/proc/{process.pid}/status").is_file():
        return 0
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM"))


def test_a_format_down_to_the_last_row_costs_little(tmp_path: Path, reader: WorkbookReader) -> None:
    blank = "".join(f'<row r="{row}"><c r="A{row}" s="3"/><c r="G{row}" s="3"/></row>' for row in range(2, 200_000))
    rows = f'<row r="1"><c r="A1"><v>1</v></c></row>{blank}<row r="1048576"><c r="A1048576"><v>2</v></c></row>'
    (sheet,) = reader.sheets(workbook(tmp_path / "w.xlsx", rows))
    assert sheet.rows == {1: ["1"], 1048576: ["2"]}
