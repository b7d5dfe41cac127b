"""The file of a history: nothing that was written is lost, and nothing is skipped in silence."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import cut_at, killed_at

from pytest_calibration import Predictions
from pytest_calibration.errors import HistoryError
from pytest_calibration.history.file import Appended, History, Lines
from pytest_calibration.history.lines import Line
from pytest_calibration.predictions.stored_items import MAX_TOKENS

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def some_line(step: int, **changes: Any) -> Line:
    """A line of one checkpoint."""
    line = Line(
        time="2026-01-01T00:00:00Z",
        model=f"runs/sft/checkpoint-{step}",
        probe="facts",
        step=step,
        n=40,
        units=40,
        verdict="passed",
    )
    return replace(line, **changes)


def some_predictions(seed: int = 0, n: int = 40, **fields: Any) -> Predictions:
    """Predictions that are about calibrated."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    made = Predictions.from_confidence(confidence, rng.random(n) < confidence, probe="facts")
    return replace(made, **fields)


def steps(history: History) -> list[int | None]:
    """The steps that can be read."""
    return [line.step for line in history.read()]


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A history that is not there yet."""
    return History(tmp_path / "history.jsonl")


# --- reading what was written --------------------------------------------------------------------


def test_lines_come_back_in_the_order_of_the_file(history: History) -> None:
    """As they were, and with the items of each."""
    lines = [some_line(3), some_line(1), some_line(2, probe="next_token")]
    items = [some_predictions(3), None, some_predictions(2, probe="next_token")]
    assert history.append(lines[:1], items[:1]) == Appended(added=1)
    assert history.append(lines[1:], items[1:]) == Appended(added=2)
    found = history.read().lines
    assert [replace(line, items="") for line in found] == lines
    for line, kept in zip(found, items, strict=True):
        read = history.predictions(line)
        assert (read is None) == (kept is None)
        if read is not None and kept is not None:
            assert read.confidence.tolist() == kept.confidence.astype(np.float32).tolist()
            assert read.correct.tolist() == kept.correct.tolist()
            assert read.item_ids.tolist() == kept.item_ids.tolist()
            assert (read.probe, read.unit) == (kept.probe, kept.unit)


def test_groups_are_kept_and_tokens_are_sampled(history: History) -> None:
    """As a baseline keeps them: the groups that belong together, and 4,000 tokens."""
    n = MAX_TOKENS + 50
    groups = np.array([f"document {i // 10}" for i in range(n)])
    made = some_predictions(n=n, groups=groups, unit="token")
    history.append(Line.of(made, model="m"), made)
    (line,) = history.read()
    kept = history.predictions(line)
    assert kept is not None
    assert (line.n, line.unit, line.units, kept.unit) == (n, "token", made.n_clusters, "token")
    assert kept.item_ids.tolist() == made.limited(MAX_TOKENS).item_ids.tolist()
    assert kept.n_clusters == made.limited(MAX_TOKENS).n_clusters


def test_equal_items_are_one_file(history: History) -> None:
    """Its name is the digest of its content."""
    history.append([some_line(1), some_line(2)], [some_predictions(), some_predictions()])
    (file,) = history.items_folder.iterdir()
    assert {line.items for line in history.read()} == {file.stem}


def test_pandas_reads_it(history: History) -> None:
    """A line is a row."""
    pandas = pytest.importorskip("pandas")
    made = some_predictions()
    for step in (100, 200):
        history.append(Line.of(made, model=f"runs/step_{step}", verdict="passed"), made)
    frame = pandas.read_json(history.path, lines=True)
    assert frame["model"].tolist() == ["runs/step_100", "runs/step_200"]
    assert frame["n"].tolist() == [40, 40]
    (line, _) = history.read()
    assert frame["metrics"][0]["ece"]["value"] == pytest.approx(line.metrics["ece"].value)


# --- the same measurement ------------------------------------------------------------------------


def test_the_same_measurement_counts_once(history: History) -> None:
    """At whatever time and commit it was made again; nothing is written."""
    line = some_line(1)
    history.append(line)
    before = history.path.read_bytes()
    again = replace(line, time="2027-01-01T00:00:00Z", commit="f" * 40)
    assert history.append([again, line]) == Appended(known=2)
    assert history.path.read_bytes() == before
    # Written by another program.
    history.path.write_text(f"{line.to_json()}\n{again.to_json()}\n", "ascii")
    assert (list(history.read()), history.read().repeated) == ([line], 1)


def test_what_was_measured_otherwise_meanwhile_counts_again(history: History) -> None:
    """The last line of a model says what it is now."""
    told = [some_line(1, time=f"2026-01-0{day}") for day in range(1, 5)]
    told[1] = replace(told[1], units=20)
    for line in told:
        history.append(line)
    assert list(history.read()) == told[:3]


def test_a_newer_verdict_and_items_are_told_of_the_same_measurement(history: History) -> None:
    """It was judged again, or its items are kept now: it still counts once."""
    for verdict in ("no_baseline", "recorded", "passed"):
        assert history.append(some_line(1, verdict=verdict)) == Appended(added=1)
    assert history.append(some_line(1)) == Appended(known=1)
    # As a parent, of which nothing is judged.
    assert history.append(some_line(1, verdict="")) == Appended(known=1)
    assert history.append(some_line(1, verdict=""), some_predictions()) == Appended(added=1)
    lines = history.read()
    assert (len(lines), lines.repeated) == (1, 3)
    (line,) = lines
    assert (line.verdict, line.time) == ("passed", some_line(1).time)
    assert history.predictions(line) is not None


def test_files_that_were_joined_count_once(history: History) -> None:
    """Two copies of a history, each added to, one behind the other."""
    shared = [some_line(1), some_line(1, units=20), some_line(2)]
    texts = [line.to_json() for line in [*shared, some_line(3), *shared, some_line(4)]]
    history.path.write_text("\n".join(texts), "ascii")
    assert steps(history) == [1, 1, 2, 3, 4]
    assert history.read().repeated == 3


# --- torn lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [0, 2])
def test_a_torn_line_is_named_and_nothing_is_glued_to_it(history: History, whole: int) -> None:
    """Wherever it ends: what was there can be read, before and after the next append."""
    told = "".join(f"{some_line(i).to_json()}\n" for i in range(whole)).encode()
    last = some_line(7).to_json().encode()
    for cut in range(1, len(last), 7):
        history.path.write_bytes(told + last[:cut])
        for appended in ([], [some_line(8)]):
            if appended:
                assert history.append(appended) == Appended(added=1, torn=True)
                assert history.path.read_bytes().startswith(told + last[:cut] + b"\n")
            found = history.read()
            assert [line.step for line in found] == [*range(whole), *(a.step for a in appended)]
            assert [one.number for one in found.skipped] == [whole + 1]
            assert found.remarks[0].startswith(f"line {whole + 1}: is no JSON (")
            assert found.remarks[0].endswith("); it is skipped.")


def test_a_line_without_its_line_break_is_whole(history: History) -> None:
    """An editor may take it away."""
    history.path.write_bytes(some_line(1).to_json().encode())
    assert history.append(some_line(2)) == Appended(added=1)
    assert (steps(history), history.read().skipped) == ([1, 2], ())


def test_other_line_breaks_and_marks_are_read(history: History) -> None:
    """As editors of Windows leave them."""
    texts = [some_line(i).to_json() for i in range(3)]
    history.path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode() + b"\r\n")
    history.append(some_line(3))
    assert (steps(history), history.read().skipped) == ([0, 1, 2, 3], ())


# --- several processes, and killed ones ----------------------------------------------------------

APPENDER = """
import sys
from dataclasses import replace
from pytest_calibration.history.file import History
from pytest_calibration.history.lines import Line

name, many, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
line = Line(model=name, probe="facts", n=1, units=1)
for step in range(many):
    History(path).append(replace(line, step=step))
"""


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    """Each appends 1,000 lines, one at a time."""
    many, names = 1000, ("one", "other")
    # In memory where there is such a place: 2,000 times, the disk would be waited for.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as folder:
        lines = appended_by_two(History(Path(folder, "history.jsonl")), many, names)
    assert lines.skipped == ()
    for name in names:
        assert [line.step for line in lines if line.model == name] == [*range(many)]


def appended_by_two(history: History, many: int, names: tuple[str, str]) -> Lines:
    """What a history holds after two processes appended to it at once."""
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDER, name, str(many), str(history.path)])
        for name in names
    ]
    assert [process.wait() for process in processes] == [0, 0]
    return history.read()


def losses(history: History, append: Callable[[Line, Predictions], object]) -> Iterator[str]:
    """Kill an append at each of its writes, and within them; yield what is lost then."""
    lines = [some_line(i) for i in range(3)]
    history.append(lines, [some_predictions(i) for i in range(3)])
    told = history.path.read_bytes()
    known = history.read().lines
    added = some_line(3), some_predictions(3)

    def check(when: str) -> Iterator[str]:
        try:
            found = History(history.path).read()
            kept = [history.predictions(line) for line in found]
        except HistoryError as problem:
            yield f"{when}: {problem}"
        else:
            if found.lines[:3] != known or None in kept:
                yield f"{when}: {len(found)} lines are left of {len(known)}"
            # Whatever was left, the next append adds to it.
            history.append(some_line(4))
            if steps(history)[-1:] != [4]:
                yield f"{when}: the next line is lost"

    call = 0
    while True:
        history.path.write_bytes(told)
        killed = killed_at(call, lambda: append(*added))
        yield from check(f"killed before write {call}")
        if not killed:
            break
        call += 1
    assert call > 2
    if steps(history)[3:] != [3, 4]:
        yield "nothing is added without a kill"
    for size in range(len(told), len(told) + len(added[0].to_json()), 60):
        history.path.write_bytes(told)
        cut_at(size, lambda: append(*added))
        yield from check(f"cut at byte {size}")


@needs_fork
def test_an_append_that_is_killed_loses_nothing(history: History) -> None:
    """At each of its writes and within them, what was there can be read, and be added to."""
    assert [*losses(history, history.append)] == []


@needs_fork
def test_a_plain_write_that_is_killed_loses_lines(history: History) -> None:
    """The check can fail: it finds what a file that is written anew loses."""

    def rewrite(line: Line, _: Predictions) -> None:
        text = history.path.read_text("ascii") + f"{line.to_json()}\n"
        history.path.write_text(text, "ascii")

    assert any("0 lines are left" in loss for loss in losses(history, rewrite))


# --- what cannot be read or written --------------------------------------------------------------


def test_a_full_disk_takes_no_part_of_a_line(history: History) -> None:
    """One sentence, and the file is as it was."""
    history.append(some_line(1))
    before = history.path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limit[1]))
    try:
        with pytest.raises(HistoryError) as caught:
            history.append(some_line(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(caught.value) == (
        f"{history.path}: cannot be written (File too large); nothing was added to the history."
    )
    assert history.path.read_bytes() == before


def test_a_place_without_the_right_to_write_is_refused(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence; also where only the write itself shows it."""
    history.append(some_line(1))
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS))

    def no_write(path: Any, flags: int, *_: Any) -> int:
        raise refused

    monkeypatch.setattr("os.open", no_write)
    with pytest.raises(HistoryError, match=r"cannot be written \(Read-only file system\); nothing"):
        history.append(some_line(2))
    monkeypatch.undo()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(HistoryError) as caught:
        history.append(some_line(2))
    assert str(caught.value) == (
        f"{history.path}: cannot be written (no right to write {history.path})."
    )


def test_a_folder_is_made_but_not_within_a_file(tmp_path: Path) -> None:
    """The message names what is in the way."""
    History(tmp_path / "a" / "b" / "history.jsonl").append(some_line(1))
    (tmp_path / "file").touch()
    with pytest.raises(
        HistoryError, match=r"cannot be written \(\S+file is no folder\); name anot"
    ):
        History(tmp_path / "file" / "history.jsonl").append(some_line(1))


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing", "pointer"])
def test_what_is_no_plain_file_is_not_opened(history: History, kind: str) -> None:
    """A pipe would wait for a writer."""
    if kind == "folder":
        history.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(history.path)
    elif kind == "pointer":
        history.path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    messages = {
        "folder": "it is a folder",
        "pipe": "it is a pipe",
        "missing": "there is no such file",
        "pointer": "git lfs pull",
    }
    with pytest.raises(HistoryError, match=messages[kind]):
        history.read()
    if kind != "missing":
        with pytest.raises(HistoryError, match=messages[kind]):
            history.append(some_line(1))


def test_a_newer_format_is_refused_by_name(history: History) -> None:
    """Wherever it stands; nothing is added to it."""
    newer = json.dumps(json.loads(some_line(2).to_json()) | {"format": 2}, separators=(",", ":"))
    history.path.write_text(f"{some_line(1).to_json()}\n{newer}\n", "ascii")
    for action in (history.read, lambda: history.append(some_line(3))):
        with pytest.raises(HistoryError) as caught:
            action()
        assert str(caught.value) == (
            f"{history.path}, line 2: has format 2, and this version of pytest-calibration reads "
            "format 1; update pytest-calibration."
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"probe: facts\n", "line 1: is no JSON (Expecting value, column 1)"),
        (b"\n\n[1]\n", "line 3: has no format"),
        (b"\xff\xfe{\x00", "line 1: is not UTF-8"),
        (b'{"probe": "facts"}\n', "line 1: has no format"),
        (b"[" * 200_000, "line 1: is no JSON"),
    ],
)
def test_what_is_no_history_is_refused(history: History, content: bytes, reason: str) -> None:
    """One sentence with the first line that is none; nothing is added."""
    history.path.write_bytes(content)
    with pytest.raises(HistoryError) as caught:
        history.read()
    assert f"is no history of calibration ({reason}" in str(caught.value)
    with pytest.raises(HistoryError, match="is no history of calibration"):
        history.append(some_line(1))
    assert history.path.read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 0}, "n must be a number of at least 1, got 0"),
        ({"n": True}, "n must be a number of at least 1, got true"),
        ({"step": -1}, "step must be a number of at least 0 or null, got -1"),
        ({"model": None}, "model must be text, got null"),
        ({"unit": "word"}, 'unit must be one of "item", "token", got "word"'),
        ({"items": "../../secret"}, "items must be 64 hexadecimal digits, or empty, got"),
        ({"metrics": {"ece": 0.1}}, "metrics.ece must be an object, got 0.1"),
        ({"metrics": {"ece": {}}}, "metrics.ece lacks value"),
        ({"metrics": {"ece": {"value": "x"}}}, 'metrics.ece.value must be a number, got "x"'),
        ({"format": 0}, "has a format that is not 1"),
        ({"format": "1"}, "has a format that is not 1"),
    ],
)
def test_a_line_with_a_wrong_value_is_skipped_by_name(
    history: History, changes: dict[str, Any], reason: str
) -> None:
    """It says which line, which field and what is there."""
    bad = json.dumps(json.loads(some_line(2).to_json()) | changes)
    history.path.write_text(f"{some_line(1).to_json()}\n{bad}\n{some_line(3).to_json()}\n", "ascii")
    lines = history.read()
    assert [line.step for line in lines] == [1, 3]
    (told,) = lines.remarks
    assert told.startswith(f"line 2: {reason}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_a_number_that_is_not_finite_is_none(history: History, number: str) -> None:
    """It is named, not read as one."""
    text = (
        some_line(2).to_json().replace('"metrics":{}', f'"metrics":{{"ece":{{"value":{number}}}}}')
    )
    history.path.write_text(f"{some_line(1).to_json()}\n{text}\n", "ascii")
    assert (steps(history), len(history.read().skipped)) == ([1], 1)


def test_fields_of_others_are_left_alone(history: History) -> None:
    """A program may add fields to a line."""
    text = json.dumps(json.loads(some_line(1).to_json()) | {"owner": "a"})
    history.path.write_text(text + "\n", "ascii")
    assert list(history.read()) == [some_line(1)]


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400))
def test_damage_of_any_kind_is_skipped_or_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: int, length: int
) -> None:
    """Lines that are whole are read; nothing but HistoryError is raised."""
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    text = some_line(1).to_json().encode()
    damaged = text[:start] + junk + text[start + length :]
    path.write_bytes(text + b"\n" + damaged + b"\n" + some_line(2).to_json().encode())
    try:
        found = History(path).read()
    except HistoryError as problem:
        told = str(problem)
    else:
        told = "has format" if {1, 2} <= {line.step for line in found} else "a line is lost"
    assert "has format" in told


# --- items ---------------------------------------------------------------------------------------


def test_items_are_compared_by_the_settings_of_their_line(history: History) -> None:
    """The digest of what was asked is what they must agree in; the model is named, no more."""
    made = some_predictions()
    history.append(Line.of(made, model="runs/a"), made)
    (line,) = history.read()
    kept = history.predictions(line)
    assert kept is not None
    assert (kept.signature.hard, kept.signature.soft) == (
        {"signature": line.signature},
        {"model": "runs/a"},
    )


def test_items_that_are_gone_are_none(history: History) -> None:
    """Then the comparison is not paired, which is for the reader to say."""
    history.append(some_line(1), some_predictions())
    (line,) = history.read()
    for file in history.items_folder.iterdir():
        file.unlink()
    assert history.predictions(line) is None


def test_damaged_items_are_refused(history: History) -> None:
    """One sentence with the file, and what to do."""
    history.append(some_line(1), some_predictions())
    (line,) = history.read()
    (file,) = history.items_folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HistoryError) as caught:
        history.predictions(line)
    assert str(caught.value) == (
        f"{file}: is damaged (its digest is not its name); restore it, or delete it to compare "
        "without items."
    )


@pytest.mark.parametrize("kind", ["no archive", "a bomb", "fewer items", "a folder"])
def test_crafted_items_are_refused(history: History, kind: str) -> None:
    """Whoever can write the file can name it by its digest."""
    import hashlib

    if kind == "fewer items":
        from pytest_calibration.predictions.stored_items import items_bytes

        payload = items_bytes(some_predictions(n=39))
    elif kind == "a bomb":
        with zipfile.ZipFile(history.path.with_name("bomb"), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ids.npy", bytes(1 << 24))
        payload = history.path.with_name("bomb").read_bytes()
    else:
        payload = b"PK no archive"
    name = hashlib.sha256(payload).hexdigest()
    history.items_folder.mkdir()
    file = history.items_folder / f"{name}.npz"
    file.mkdir() if kind == "a folder" else file.write_bytes(payload)
    with pytest.raises(HistoryError, match=r"does not hold the items|it is a folder"):
        history.predictions(some_line(1, items=name))


def test_items_of_another_line_are_refused(history: History) -> None:
    """A line and its items are of one measurement."""
    for items in (some_predictions(n=39), some_predictions(probe="other"), [None, None]):
        with pytest.raises(HistoryError, match="the items are not those of the lines"):
            history.append(some_line(1), items)
    assert not history.path.exists()


def test_a_history_is_as_public_as_its_neighbours(history: History) -> None:
    """Others of a team read it."""
    history.append(some_line(1), some_predictions())
    history.path.with_name("neighbour").touch()
    mode = stat.S_IMODE(history.path.with_name("neighbour").stat().st_mode)
    (items,) = history.items_folder.iterdir()
    assert {stat.S_IMODE(file.stat().st_mode) for file in (history.path, items)} == {mode}
    # No lock file stays.
    assert {file.name for file in history.path.parent.iterdir()} == {
        "history.jsonl",
        "history.jsonl.items",
        "neighbour",
    }
