"""Items files that are tables of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_calibration.errors import ItemError
from pytest_calibration.probes.facts import Facts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", 'prompt,answer\nUp is not,down\n"One, two,","three"\n'),
        ("rows.tsv", "prompt\tanswer\r\nUp is not\tdown\r\nOne, two,\tthree\r\n"),
        ("ROWS.CSV", '\ufeffanswer , prompt\ndown,Up is not\n\nthree,"One, two,"'),
    ],
)
def test_a_table_holds_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    """Quotes, tabs, Windows line ends, a byte order mark, blank lines, columns in any order."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    expected = [("Up is not", "down"), ("One, two,", "three")]
    assert [(i.prompt, i.answer) for i in Facts("mine", path=path).items] == expected


def test_an_empty_cell_is_left_out(tmp_path: Path) -> None:
    """An optional key may be empty in some rows; one that is needed may not."""
    path = tmp_path / "rows.csv"
    path.write_text("prompt,answer,slice\na,b,\nc,d,x\n")
    assert [i.slice for i in Facts("mine", path=path).items] == [None, "x"]
    path.write_text("prompt,answer\na,\n")
    with pytest.raises(ItemError, match=r"rows\.csv, line 2: the key 'answer' is missing"):
        Facts("mine", path=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,answr\na,b\n", r"line 1: the head line: unknown key 'answr'; known keys: prompt"),
        ("prompt,answer,answer\na,b,c\n", r"line 1: the head line names 'answer' twice"),
        ("prompt,answer\na,b\na,b,c\n", r"line 3: has 3 cells where the head line names 2; put a"),
        ('prompt,answer\n"a"x,b\n', r"line 2: is no row of a table \("),
        ('prompt,answer\n"a,b\n', r"line 2: is no row of a table \(unexpected end of data\)"),
        ("prompt,answer\n", r"rows\.csv: holds no rows; write a head line and rows"),
        ("", r"rows\.csv: holds no rows; write a head line and rows"),
        ("prompt,answer\n \n a,\n", r"line 3: the key 'answer' is missing"),
        (
            "prompt,answer\na," + "b" * 200_000 + "\n",
            r"line 2: is no row of a table \(field larger",
        ),
    ],
)
def test_a_bad_table_is_told_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong, where, and what to do."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ItemError, match=message):
        Facts("mine", path=path)


def test_a_table_in_another_encoding_is_told(tmp_path: Path) -> None:
    """As for every other file."""
    path = tmp_path / "rows.csv"
    path.write_bytes("prompt,answer\nä,b\n".encode("latin-1"))
    with pytest.raises(ItemError, match=r"line 2 is not UTF-8\); save it as UTF-8"):
        Facts("mine", path=path)
