"""YAML read strictly: whatever PyYAML lets pass in silence is an error with file and line."""

from __future__ import annotations

import math
import os
import socket
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_calibration.errors import CalibrationError, ConfigError, UnreadableBaseline
from pytest_calibration.strict_yaml import MAX_BYTES, read_mapping


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file lies."""
    return tmp_path / "some.yaml"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("# nothing\n", {}, id="comment"),
        pytest.param("null\n", {}, id="null"),
        pytest.param("{}\n", {}, id="no-keys"),
        pytest.param("a: {b: [1, 2.5, null, true, x]}\n", {"a": {"b": [1, 2.5, None, True, "x"]}}),
        pytest.param("\ufeffa: 1\n", {"a": 1}, id="byte-order-mark"),
        pytest.param("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}, id="windows-lines"),
        pytest.param("a: |\n  =======\n", {"a": "=======\n"}, id="a-rule-inside-text"),
        pytest.param("a: '<<<<<<< no'\n", {"a": "<<<<<<< no"}, id="a-marker-inside-text"),
        pytest.param("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}, id="other-mapping"),
        pytest.param(
            "a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\n",
            {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}},
            id="merge-key",
        ),
    ],
)
def test_plain_data_is_read_as_it_stands(path: Path, text: str, data: object) -> None:
    """What a person would write is read as it is meant."""
    path.write_bytes(text.encode())
    assert read_mapping(path, ConfigError) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0100", 100),
        ("0o10", 8),
        ("0x1F", 31),
        ("+12", 12),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1e-3", 0.001),
        ("1E5", 100_000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("TRUE", True),
        ("Null", None),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("2020-13-45", "2020-13-45"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("=", "="),
        ("<<", "<<"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("!!float 5", 5.0),
        (r'"\ud83d\ude00"', "\U0001f600"),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(path: Path, text: str, value: object) -> None:
    """The core schema of YAML 1.2.2, section 10.3.2; JSON's two escapes are one character."""
    path.write_text(f"a: {text}\n", encoding="utf-8")
    (read,) = read_mapping(path, ConfigError).values()
    assert (type(read), read) == (type(value), value)


def _aliases(levels: int, each: int) -> str:
    """Lists of aliases: the last stands for ``each ** levels`` values."""
    names = [f"n{i}" for i in range(levels + 1)]
    rows = [f"{b}: &{b} [{', '.join([f'*{a}'] * each)}]" for a, b in pairwise(names)]
    return "\n".join([f"{names[0]}: &{names[0]} x", *rows])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_aliases(12, 9), id="lists-of-aliases"),
        pytest.param(_aliases(30, 2), id="pairs-of-aliases"),
        pytest.param(
            "m0: &m0 {x: 1}\n"
            + "\n".join(f"m{i + 1}: &m{i + 1} {{<<: [*m{i}, *m{i}]}}" for i in range(30)),
            id="merged-mappings",
        ),
        pytest.param(f"a: [{'1,' * 500_000}]", id="flow-list"),
        pytest.param("".join(f"k{i}: 1\n" for i in range(60_000)), id="many-keys"),
        pytest.param(f"a: &a x\nb: [{'*a,' * 300_000}]", id="one-alias-often"),
    ],
)
def test_a_small_file_cannot_grow_large(path: Path, text: str) -> None:
    """Keys and values are counted as the file is parsed, an alias as all that it stands for."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line \d+: holds more than 20,000 values") as caught:
        read_mapping(path, ConfigError)
    assert len(str(caught.value)) < 300


def test_aliases_within_bounds_are_read(path: Path) -> None:
    """Up to 20,000 values count, those of aliases too."""
    path.write_text(_aliases(3, 8), encoding="utf-8")
    assert len(read_mapping(path, ConfigError)["n3"]) == 8


@pytest.mark.parametrize(
    "text", ["a: *{}\n", "a: !{} x\n", "{}: 1\n{}: 1\n", "a: !!int {}\n", "'{}"], ids=str
)
def test_a_message_quotes_at_most_200_characters(path: Path, text: str) -> None:
    """However long a name is, the message says what is wrong, and shows both of its ends."""
    path.write_text(text.replace("{}", "k" * 100_000), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_mapping(path, ConfigError)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", r", line 3: the key 'a' is given twice", id="twice"),
        pytest.param("a:\n  b: 1\n  b: 1\n", r", line 3: the key 'b' is given twice", id="nested"),
        pytest.param("a: [{b: 1, b: 1}]\n", r", line 1: the key 'b' is given twice", id="in-list"),
        pytest.param("a: 1\n'a': 2\n", r", line 2: the key 'a' is given twice", id="quoted"),
        pytest.param(
            "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n",
            r", line 2: holds git conflict markers; keep one side",
            id="conflict",
        ),
        pytest.param("a: 1\n=======\n", r", line 2: holds git conflict markers", id="middle"),
        pytest.param("a: 1\r\n>>>>>>>\r\n", r", line 2: holds git conflict", id="end-windows"),
        pytest.param("a: [1\n", r", line 2: expected ',' or '\]'", id="syntax"),
        pytest.param("a: b: c\n", r", line 1: mapping values are not allowed here", id="colons"),
        pytest.param("\ta: 1\n", r", line 1: found character '\\t'", id="tab"),
        pytest.param("a: *x\n", r", line 1: found undefined alias 'x'", id="alias"),
        pytest.param("a: \x00\n", r", line 1: is no YAML \(the character U\+0000", id="nul"),
        pytest.param("a: 1\n---\nb: 2\n", r", line 2: but found another document", id="two"),
        pytest.param("- a\n", r": must hold a mapping with text keys, got list", id="list"),
        pytest.param("3\n", r": must hold a mapping with text keys, got int", id="number"),
        pytest.param("true: 1\n", r": must hold a mapping .*, got the key True", id="key-true"),
        pytest.param("1: 1\n", r": must hold a mapping .*, got the key 1", id="key-number"),
        pytest.param("? [a]\n: b\n", r", line 1: a key must be plain text", id="key-list"),
        pytest.param("a: 9" + "9" * 5000, r", line 1: '9.* is no whole number of at", id="digits"),
        pytest.param("a: 1e400", r", line 1: '1e400' is no finite number", id="too-large"),
        pytest.param("a: " + "[" * 100_000, r", line 1: is nested more than 50", id="deep-list"),
        pytest.param("{a: " * 20_000, r", line 1: is nested more than 50 deep", id="deep-mapping"),
        pytest.param("a: !!int ''", r", line 1: '' is no whole number of at most 63", id="no-int"),
        pytest.param("a: !!int 0b1", r", line 1: '0b1' is no whole number of at", id="binary-int"),
        pytest.param("a: !!float x", r", line 1: 'x' is no finite number", id="no-float"),
        pytest.param("a: !!bool yes", r", line 1: 'yes' is neither true nor", id="no-bool"),
        pytest.param("a: !!null x", r", line 1: 'x' is not null", id="no-null"),
        pytest.param("a: !!map x", r", line 1: expected a mapping node", id="no-mapping"),
        pytest.param("a: !!str [x]", r", line 1: expected a scalar node", id="no-text"),
        pytest.param("a: !!timestamp x", r", line 1: .* for the tag '.*timestamp'", id="tag-time"),
        pytest.param("a: !!set {x}", r", line 1: .* for the tag '.*:set'", id="tag-set"),
        pytest.param("a: {<<: 3}", r", line 1: expected a mapping or list of map", id="merge-int"),
        pytest.param("a: {<<: [1]}", r", line 1: expected a mapping for merging", id="merge-list"),
        pytest.param("a: &a [*a]", r", line 1: the alias 'a' stands within itself", id="itself"),
        pytest.param("a: &a x\nb: &a y", r", line 2: the anchor 'a' is given twice", id="anchors"),
        pytest.param(
            "a: !!python/object/apply:os.system ['exit 1']\n",
            r", line 1: could not determine a constructor for the tag .*os\.system",
            id="code",
        ),
    ],
)
@pytest.mark.parametrize("error", [ConfigError, UnreadableBaseline])
def test_what_is_wrong_is_told_by_file_and_line(
    path: Path, text: str, message: str, error: type[CalibrationError]
) -> None:
    """Each bad file has its message, in the class of error that the reader asked for."""
    path.write_bytes(text.encode())
    with pytest.raises(error, match=rf"some\.yaml{message}"):
        read_mapping(path, error)


def test_a_file_that_is_too_large_is_refused_by_its_size(path: Path) -> None:
    """One mebibyte is read, one byte more is refused with both numbers."""
    path.write_bytes(b"a: 1\n" + b"#" * (MAX_BYTES - 5))
    assert read_mapping(path, ConfigError) == {"a": 1}
    path.write_bytes(b"a: 1\n" + b"#" * (MAX_BYTES - 4))
    with pytest.raises(ConfigError, match=r"1,048,577 bytes are too many .*\(1,048,576\)"):
        read_mapping(path, ConfigError)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "there is no such file"),
        ("folder", r"cannot be read \(it is a folder\); name a file"),
        ("pipe", r"cannot be read \(it is a pipe\); name a file"),
        ("socket", r"cannot be read \(it is a socket\); name a file"),
        ("device", r"cannot be read \(it is a device\); name a file"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_reason(path: Path, kind: str, reason: str) -> None:
    """No file, or no plain file: that is never opened."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # Its whole name must be short.
        path = Path(tempfile.mkdtemp()) / "some.yaml"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=rf"some\.yaml: {reason}\.$"):
        read_mapping(path, ConfigError)


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("latin-1", r"line 2 is not UTF-8"),
        *((f"utf-{n}", "it is UTF-16 or UTF-32 text") for n in (16, 32)),
        *((f"utf-{n}", "it is UTF-16 or UTF-32 text") for n in ("16-le", "16-be")),
    ],
)
def test_another_encoding_is_told(path: Path, encoding: str, reason: str) -> None:
    """What Windows calls Unicode is named; other bytes by their line."""
    path.write_bytes("b: 1\na: \xe9\n".encode(encoding))
    with pytest.raises(ConfigError, match=rf"yaml: cannot be read \({reason}\); save it as UTF-8"):
        read_mapping(path, ConfigError)


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "\ud83d"], ids=["long", "nul", "half"])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    """Neither the operating system's error nor an encoder's reaches the caller."""
    with pytest.raises(ConfigError, match=r"cannot be read \((File name too long|no file can)"):
        read_mapping(Path(name), ConfigError)


def test_a_pointer_of_git_lfs_is_told(path: Path) -> None:
    """A clone without git-lfs holds three lines in place of the file."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n")
    with pytest.raises(ConfigError, match=r"is a pointer of Git LFS, .*; fetch it: git lfs pull"):
        read_mapping(path, ConfigError)


@given(content=st.binary(max_size=40) | st.text("ab:-[]{}&*!<>|\"'?,# \n\t=", max_size=40))
def test_no_content_raises_anything_but_the_error_asked_for(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    """Any bytes at all are a mapping with text keys or an error of the class asked for."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        data = read_mapping(path, ConfigError)
    except ConfigError:
        return
    assert all(isinstance(key, str) for key in data)
