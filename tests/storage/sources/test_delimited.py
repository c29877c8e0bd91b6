import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import SourceError
from storage.readers.lines import MISQUOTED
from storage.readers.opening import open_source
from storage.readers.source import Reject


def read(
    path: Path, content: str | bytes, rows: int = 65_536, **options: str
) -> tuple[list[tuple[str | None, str]], list[Reject]]:
    """The (id, text) pairs and the rejects of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    chunks = list(open_source(path, **options).chunks(rows))
    pairs = [(row["item_id"], row["text"]) for chunk in chunks for row in chunk.table.to_pylist()]
    return pairs, [reject for chunk in chunks for reject in chunk.rejects]


def description(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_source(path).description


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            "publish_date,headline_text\n20030219,aba decides\n",
            "CSV, comma, UTF-8, header; text 'headline_text', no id, date 'publish_date'",
        ),
        ("id;text\n1;one, two\n", "CSV, semicolon, UTF-8, header; text 'text', id 'id', no date"),
        ("a1\tone, two\na2\tthree; four\n", "CSV, tab, UTF-8, no header; text column 2, id column 1, no date"),
        ("text\none, two\nthree; four\n", "plain text, one text per line, UTF-8, header; text 'text', no id, no date"),
        (
            "One, two.\nThree, four.\nFive\n",
            "plain text, one text per line, UTF-8, no header; text column 1, no id, no date",
        ),
    ],
)
def test_the_dialect_is_found_out_and_said(tmp_path: Path, content: str, found: str) -> None:
    for encoded in (content.encode(), b"\xef\xbb\xbf" + content.encode()):
        assert description(tmp_path / "a.csv", encoded) == found


@pytest.mark.parametrize(
    ("row", "line", "reason"),
    [
        ("3, ", 3, "the text is empty"),
        ("3", 3, "too few values: 1, expected 2"),
        ("3,one, two", 3, "too many values: 3, expected 2; an unquoted comma in the text?"),
        (",no id", 3, "the id is empty"),
        ("3,a\0b", 3, "holds a NUL byte"),
        (b"3,caf\xe9", 3, "holds bytes that are not text in the file's encoding"),
        ('3,"not closed', 3, MISQUOTED),
        ('3,"closed" early', 3, MISQUOTED),
        ("3," + "x" * 100_001, 3, "the text is longer than 100,000 characters"),
        ("3," + "x" * 200_000, 3, "the text is longer than 100,000 characters"),
        ("\r\n\r\n3,", 5, "the text is empty"),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 65_536])
def test_one_bad_row_is_the_only_reject(tmp_path: Path, row: str | bytes, line: int, reason: str, rows: int) -> None:
    bad = row.encode() if isinstance(row, str) else row
    content = "id,text\r\n1,é ü ñ\r\n".encode() + bad + b"\r\n4,four\r\n5,five\r\n"
    pairs, rejects = read(tmp_path / "a.csv", content, rows)
    assert pairs == [("1", "é ü ñ"), ("4", "four"), ("5", "five")]
    assert [(reject.row, reject.reason) for reject in rejects] == [(line, reason)]
    assert rejects[0].file == str(tmp_path / "a.csv")
    assert 0 < len(rejects[0].value) <= 200


def test_blank_rows_of_a_spreadsheet_are_skipped_in_silence(tmp_path: Path) -> None:
    pairs, rejects = read(tmp_path / "a.csv", "id,text\r\n1,one\r\n,\r\n   \r\n\r\n\t\r\n, \r\n2,two\r\n\r\n")
    assert (pairs, rejects) == ([("1", "one"), ("2", "two")], [])


def test_rows_of_texts_with_line_breaks_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"one\ntwo"\n\n2,"three\r\n\r\nfour"\n3,five\n')
    for rows in (1, 2, 3, 100):
        got = [row["row"] for chunk in open_source(path).chunks(rows) for row in chunk.table.to_pylist()]
        assert got == [2, 5, 8]


def test_prose_that_begins_with_a_quote_keeps_it_in_plain_text_and_tsv(tmp_path: Path) -> None:
    lines = ['"We won," he said', "They lost", '"No," she said']
    assert read(tmp_path / "a.txt", "\n".join(lines))[0] == [(None, line) for line in lines]
    tabbed = "".join(f"x{i}\t{line}\n" for i, line in enumerate(lines))
    assert read(tmp_path / "a.tsv", tabbed)[0] == [(f"x{i}", line) for i, line in enumerate(lines)]


def test_the_options_overrule_what_would_be_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert read(path, "a;b,c d\ne;f,g h\n", delimiter=";", text_column="2", id_column="1")[0] == [
        ("a", "b,c d"),
        ("e", "f,g h"),
    ]
    assert read(path, "id,text,words\n1,x,y\n", text_column="words")[0] == [("1", "y")]
    assert read(path, "text\tid\nx\t1\n", delimiter="tab")[0] == read(path, "text\tid\nx\t1\n", delimiter="\\t")[0]
    assert read(path, "1,ж\n2,ш\n".encode("cp1251"), encoding="windows-1251", text_column="2")[0] == [
        (None, "ж"),
        (None, "ш"),
    ]


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"text_column": "txt"}, "'txt'.*'id', 'text'"),
        ({"encoding": "klingon"}, "'klingon'"),
        ({"encoding": "base64"}, "'base64'"),
        ({"delimiter": "::"}, "'::'"),
        ({"delimiter": '"'}, "'\"'"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str], values: str) -> None:
    with pytest.raises(SourceError, match=values):
        read(tmp_path / "a.csv", "id,text\n1,one\n", 65_536, **options)


@pytest.mark.parametrize("content", ["\n\r\n  \n", "id,text\n", "1,2\n3,4\n"])
def test_a_file_without_texts_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError):
        read(tmp_path / "a.csv", content)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
WORDS = st.text(st.sampled_from("ab '\"\t,;|\n\r=éü€"), max_size=12).map(str.strip)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@given(
    texts=st.lists(st.one_of(WORDS, ANY_TEXT).filter(bool), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(ENCODINGS),
    rows=st.sampled_from([1, 3, 65_536]),
    given_delimiter=st.booleans(),
)
def test_any_table_that_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    delimiter: str,
    quoting: int,
    end: str,
    encoding: str,
    rows: int,
    given_delimiter: bool,
) -> None:
    if encoding == "cp1252":
        western = (text.encode("cp1252", "ignore").decode("cp1252") for text in texts)
        texts = [re.sub(r"([^\0-\x7f])", r"\1a", text).strip() or "x" for text in western]  # accents stand alone
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:
        texts = [text.replace("\r", "") for text in texts]  # csv.writer does not quote it then
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([["item_id", "text", "more"], *([f"i{i}", text, "ö"] for i, text in enumerate(texts))])
    content = buffer.getvalue().encode(encoding)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    pairs, rejects = read(path, content, rows, **({"delimiter": delimiter} if given_delimiter else {}))
    assert rejects == []
    assert pairs == [(f"i{i}", text) for i, text in enumerate(texts)]


@given(
    texts=st.lists(WORDS.filter(bool), min_size=1, max_size=20),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_single_column_that_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], quoting: int
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=quoting).writerows([["text"], *([text] for text in texts)])  # type: ignore[arg-type]
    pairs, rejects = read(tmp_path_factory.mktemp("csv") / "a.csv", buffer.getvalue())
    assert (pairs, rejects) == ([(None, text) for text in texts], [])


@given(
    stray=st.lists(st.booleans(), min_size=1, max_size=40),
    quoted=st.booleans(),
    rows=st.sampled_from([1, 2, 5, 65_536]),
)
def test_stray_quotes_never_cost_another_row(
    tmp_path_factory: pytest.TempPathFactory, stray: list[bool], quoted: bool, rows: int
) -> None:
    mark = '"' if quoted else ""
    lines = [f'{i},"stray {i}' if bad else f"{i},{mark}good {i}{mark}" for i, bad in enumerate(stray)]
    content = "id,text\n" + "\n".join(lines)
    pairs, rejects = read(tmp_path_factory.mktemp("csv") / "a.csv", content, rows)
    assert pairs == [(str(i), f"good {i}") for i, bad in enumerate(stray) if not bad]
    assert [reject.row for reject in rejects] == [i + 2 for i, bad in enumerate(stray) if bad]
