"""Reading Gremlin CSV: which files and headers are understood, and what is said about those that are not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.gremlin_csv import ValueType, find_files
from tests.engine.factories import MOVIES, RATED, USERS, write_files


def test_files_are_found_in_nested_folders_plain_and_compressed(tmp_path: Path) -> None:
    # GIVEN vertex and edge files at several depths, one compressed, and a file that is none
    compressed = gzip.compress(RATED.encode())
    write_files(
        tmp_path,
        {"a/b/users.csv": USERS, "movies.csv": MOVIES, "c/rated.csv.gz": compressed, "notes.txt": "not a graph"},
    )
    # WHEN the folder is searched
    files = find_files(tmp_path)
    # THEN each CSV is known by its relative name, and the compressed one reads like any other
    assert [(f.name, f.is_edges) for f in files] == [
        ("a/b/users.csv", False),
        ("c/rated.csv.gz", True),
        ("movies.csv", False),
    ]
    assert sum(table.num_rows for _, table in files[1].tables()) == 5


@pytest.mark.parametrize(
    ("column", "name", "value_type", "multiple"),
    [
        ("age:Int", "age", ValueType.INTEGER, False),
        ("age:int(single)", "age", ValueType.INTEGER, False),
        ("tags:String(set)", "tags", ValueType.STRING, True),
        ("tags:String(list)", "tags", ValueType.STRING, True),
        ("tags:String[]", "tags", ValueType.STRING, True),
        ("seen:Date", "seen", ValueType.DATE, False),
        ("ok:Bool", "ok", ValueType.BOOLEAN, False),
        ("plain", "plain", ValueType.STRING, False),
        ("foaf\\:name:String", "foaf:name", ValueType.STRING, False),
        ("with space:Double", "with space", ValueType.DOUBLE, False),
    ],
)
def test_a_property_header_gives_name_type_and_cardinality(
    tmp_path: Path, column: str, name: str, value_type: ValueType, multiple: bool
) -> None:
    write_files(tmp_path, {"v.csv": f"~id,~label,{column}\na,x,\n"})
    (file,) = find_files(tmp_path)
    (item,) = file.properties
    assert (item.header, item.name, item.type, item.multiple) == (column, name, value_type, multiple)


def test_quoted_values_keep_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    # GIVEN RFC 4180 quoting, CRLF line ends and a byte order mark
    text = '\ufeff~id,~label,title\r\n"m,1",movie,"He said ""no"",\nthen left"\r\nm2,movie,plain\r\n'
    write_files(tmp_path, {"v.csv": text})
    # WHEN read
    ((_, table),) = find_files(tmp_path)[0].tables()
    # THEN the values are what was meant
    assert table["~id"].to_pylist() == ["m,1", "m2"]
    assert table["title"].to_pylist() == ['He said "no",\nthen left', "plain"]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "BAD_CSV", "v.csv is empty"),
        ("~id,name:String\na,b\n", "MISSING_COLUMN", "~label is missing"),
        ("~from,~to\na,b\n", "MISSING_COLUMN", "custom_split_filenames"),
        ("~id,~label,a,a\n", "BAD_HEADER", 'column "a" is there twice'),
        ("~id,~label,a:Int,a:Double\n", "BAD_HEADER", 'property "a" has two columns'),
        ("~id,~label,\n", "BAD_HEADER", "column 3 has no name"),
        ("~id,~label,age:Integral\n", "BAD_HEADER", 'the unknown type "Integral"; use Bool'),
        ("~id,~label,~gid\n", "BAD_HEADER", '"~gid"'),
        ("~id,~label,a:Int(many)\n", "BAD_HEADER", '"a:Int(many)"'),
    ],
)
def test_a_header_that_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, code: str, says: str) -> None:
    write_files(tmp_path, {"v.csv": text})
    with pytest.raises(BadData) as caught:
        find_files(tmp_path)
    assert caught.value.code == code
    assert "v.csv" in caught.value.message
    assert says in caught.value.message


def test_a_folder_without_csv_files_says_what_belongs_there(tmp_path: Path) -> None:
    write_files(tmp_path, {"readme.txt": "hello"})
    with pytest.raises(BadData, match="edge files with ~id,~from,~to,~label") as caught:
        find_files(tmp_path)
    assert caught.value.code == "NO_FILES"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"~id,~label\na,x\nb,x,y\n", "BAD_CSV", "v.csv:3: 3 values, the header has 2 columns"),
        (b"~id,~label\na,x\nb\n", "BAD_CSV", "v.csv:3: 1 values"),
        (b"~id,~label\na,x\n\xff\xfe,x\n", "BAD_CSV", "v.csv:3: not UTF-8 text"),
        (b"~id,~label\n,x\n", "MISSING_VALUE", "v.csv:2: ~id is empty"),
        (b'~id,~label,t,n:Int\n"a\nb",x,,1\n\nc,x,,two\n', "NOT_A_NUMBER", 'v.csv:5, column "n:Int": "two"'),
        (b"~id,~label,n:Byte\na,x,1\nb,x,300\n", "NOT_A_NUMBER", 'v.csv:3, column "n:Byte": "300"'),
        (b"~id,~label,n:Int\na,x,1.5\n", "NOT_A_NUMBER", "not a whole number"),
    ],
)
def test_a_broken_row_is_named_with_the_line_an_editor_shows(tmp_path: Path, text: bytes, code: str, says: str) -> None:
    write_files(tmp_path, {"v.csv": text})
    with pytest.raises(BadData) as caught:
        list(find_files(tmp_path)[0].tables())
    assert caught.value.code == code
    assert says in caught.value.message


def test_a_truncated_gzip_file_is_bad_data(tmp_path: Path) -> None:
    write_files(tmp_path, {"v.csv.gz": gzip.compress(USERS.encode() * 200)[:-20]})
    with pytest.raises(BadData) as caught:
        list(find_files(tmp_path)[0].tables())
    assert caught.value.code == "BAD_CSV"


def test_numbers_may_have_a_sign_and_space_around(tmp_path: Path) -> None:
    write_files(tmp_path, {"v.csv": "~id,~label,n:Double\na,x,+1.5\nb,x, 2 \nc,x,-1e3\n"})
    ((_, table),) = find_files(tmp_path)[0].tables()
    assert table["n"].to_pylist() == ["+1.5", " 2 ", "-1e3"]


def test_an_error_quotes_little_of_a_long_value_and_nothing_unprintable(tmp_path: Path) -> None:
    write_files(tmp_path, {"v.csv": f"~id,~label,n:Int\na,x,\x1b{'9x' * 5000}\n"})
    with pytest.raises(BadData) as caught:
        list(find_files(tmp_path)[0].tables())
    assert len(caught.value.message) < 300
    assert "\x1b" not in caught.value.message
