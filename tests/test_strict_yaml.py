"""YAML read strictly: whatever PyYAML lets pass in silence is an error with file and line."""

from __future__ import annotations

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
    """What a person would write is read as YAML 1.1 says."""
    path.write_bytes(text.encode())
    assert read_mapping(path, ConfigError) == data


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
        pytest.param("a: \x00\n", r": is no YAML", id="nul"),
        pytest.param("a: 1\n---\nb: 2\n", r", line 2: but found another document", id="two"),
        pytest.param("- a\n", r": must hold a mapping with text keys, got list", id="list"),
        pytest.param("3\n", r": must hold a mapping with text keys, got int", id="number"),
        pytest.param("yes: 1\n", r": must hold a mapping .*, got the key True", id="key-yes"),
        pytest.param("1: 1\n", r": must hold a mapping .*, got the key 1", id="key-number"),
        pytest.param("? [a]\n: b\n", r", line 1: a key must be plain text", id="key-list"),
        pytest.param("2020-01-01: b\n", r", line 1: a key must be plain text", id="key-date"),
        pytest.param("a: 2020-13-45\n", r": is no YAML that can be read \(month", id="date"),
        pytest.param("a: " + "9" * 5000, r": is no YAML that can be read \(Exceeds", id="digits"),
        pytest.param("a: " + "[" * 100_000, r": is no YAML that can be read", id="deep-list"),
        pytest.param("{a: " * 20_000, r": is no YAML that can be read", id="deep-mapping"),
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


@pytest.mark.parametrize("kind", ["missing", "folder", "latin-1"])
def test_what_cannot_be_read_is_told_with_the_reason(path: Path, kind: str) -> None:
    """No file, a folder, or bytes that are no UTF-8."""
    if kind == "folder":
        path.mkdir()
    elif kind == "latin-1":
        path.write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"some\.yaml: cannot be read \("):
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
