"""All items on disk and back."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import HOSTILE, predictions

from pytest_calibration.errors import PredictionsError, UsageError
from pytest_calibration.predictions import Predictions, Signature
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.reports.dump import dump_lines, dump_name, read_both, read_dump, write_dump

ARRAYS = (
    "confidence",
    "correct",
    "item_ids",
    "probabilities",
    "labels",
    "label_logprobs",
    "option_mass",
)


def same(one: Predictions, other: Predictions) -> None:
    """Assert that two predictions agree to the last bit."""
    assert (one.probe, one.unit, one.n) == (other.probe, other.unit, other.n)
    model = [p.signature.soft.get("model", "") for p in (one, other)]
    assert model[0] == model[1]
    for name in ARRAYS:
        here, there = getattr(one, name), getattr(other, name)
        assert (here is None) == (there is None), name
        if here is not None:
            assert (here.dtype, here.shape) == (there.dtype, there.shape), name
            assert here.tobytes() == there.tobytes(), name
    for name in ("groups", "slices"):
        here, there = getattr(one, name), getattr(other, name)
        assert (here is None) == (there is None), name
        if here is not None:
            assert here.tolist() == there.tolist(), name
    for i in range(one.n):
        texts = [ItemText() if p.texts is None else p.texts[i] for p in (one, other)]
        assert texts[0] == texts[1]


def write(path: Path, lines: list[str]) -> Path:
    """Write lines as a file."""
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    """Predictions with anything in them that may be there."""
    n = draw(st.integers(1, 6))
    k = draw(st.integers(1, 4))
    share = st.floats(0, 1)

    def many(each: st.SearchStrategy[Any], **more: Any) -> list[Any]:
        return draw(st.lists(each, min_size=n, max_size=n, **more))

    def perhaps(each: st.SearchStrategy[Any]) -> Any:
        return np.array(many(each)) if draw(st.booleans()) else None

    text = st.text(max_size=8)
    words = st.builds(
        ItemText, text, text, text, st.lists(text, max_size=3).map(tuple), st.text(max_size=4)
    )
    name = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
    table = perhaps(st.lists(share, min_size=k, max_size=k))
    return Predictions(
        probe=draw(name),
        confidence=np.array(many(share)),
        correct=np.array(many(st.booleans())),
        item_ids=np.array(many(st.integers(0, 2**64 - 1), unique=True), dtype=np.uint64),
        probabilities=table,
        labels=perhaps(st.integers(0, k - 1)),
        label_logprobs=perhaps(st.floats(max_value=0, allow_infinity=False)),
        option_mass=perhaps(st.floats(allow_nan=False, allow_infinity=False)),
        groups=perhaps(text),
        slices=perhaps(text),
        texts=ItemTexts.from_list(many(words)) if draw(st.booleans()) else None,
        unit=draw(st.sampled_from(["item", "token"])),
        signature=Signature(soft={"model": draw(text)}),
    )


# --- the round trip ------------------------------------------------------------------------------


@settings(max_examples=300)
@given(one=any_predictions(), before=st.booleans())
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, one: Predictions, before: bool
) -> None:
    """Every number to its last bit, every id, name and text, and the order of the items."""
    path = tmp_path_factory.mktemp("dump") / "x.jsonl"
    rng = np.random.default_rng(one.n)
    then = Predictions(one.probe, rng.random(one.n), rng.random(one.n) < 0.5, one.item_ids)
    write(path, list(dump_lines(one, then if before else None)))
    found, old = read_both(path)
    same(one, found)
    same(one, read_dump(path))
    assert (old is not None) == before
    if old is not None:
        assert old.item_ids.tobytes() == one.item_ids.tobytes()
        assert old.confidence.tobytes() == then.confidence.tobytes()
        assert old.correct.tolist() == then.correct.tolist()


def test_more_items_than_are_turned_into_lines_at_a_time(tmp_path: Path) -> None:
    """No item is lost, doubled or shifted against its text where one batch ends."""
    one = predictions(n=9001, hostile=False)
    same(one, read_dump(write_dump(tmp_path, one)))


def test_lines_may_be_left_out_and_reordered(tmp_path: Path) -> None:
    """A filtered and sorted dump is a dump of those items."""
    one = predictions(n=40)
    lines = list(dump_lines(one))
    keep = [30, 7, 8, 0, 39]
    same(one.take(np.array(keep)), read_dump(write(tmp_path / "x.jsonl", [lines[i] for i in keep])))


# --- a line --------------------------------------------------------------------------------------


def test_items_without_a_group_stay_alone(tmp_path: Path) -> None:
    """What is read back has as many independent units as what was written."""
    one = Predictions.from_confidence([0.5] * 4, [True] * 4, groups=["a", None, "a", "#1"])
    found = read_dump(write_dump(tmp_path, one))
    assert found.n_clusters == one.n_clusters == 3


def test_one_long_name_makes_no_other_longer(tmp_path: Path) -> None:
    """Reading takes memory for the text there is, not for n times the longest."""
    n, names = 2000, ["a"] * 1999 + ["x" * 100_000]
    one = Predictions.from_confidence([0.5] * n, [True] * n, groups=names, slices=names)
    tracemalloc.start()
    found = read_dump(write_dump(tmp_path, one))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    same(one, found)
    # As two arrays of fixed width: 2 x 2000 x 100,000 x 4 bytes.
    assert peak < 16_000_000


def two(**more: Any) -> Predictions:
    """Two items on which everything is known."""
    given: dict[str, Any] = {
        "probabilities": np.array([[0.1, 0.9], [0.625, 0.375]]),
        "labels": np.array([0, 0]),
        "label_logprobs": np.array([-2.5, -0.47]),
        "option_mass": np.array([0.75, 0.5]),
        "groups": np.array(["p", "p"]),
        "slices": np.array(["rivers", ""]),
        "texts": ItemTexts.from_list(
            [
                ItemText("Which river?", "Ochre", "Teal", ("Ochre", "Teal"), "row-1"),
                ItemText("And this?", "Ochre", "Ochre"),
            ]
        ),
        "signature": Signature({"shots": "3"}, {"model": "sft", "dtype": "float32"}),
    }
    return Predictions(
        "quiz",
        np.array([0.9, 0.625]),
        np.array([False, True]),
        np.array([0xABC, 2**64 - 1], dtype=np.uint64),
        **{**given, **more},
    )


def test_a_line_says_everything_that_is_known_of_an_item() -> None:
    """The keys of the format, in their order; names and texts that are not there are left out."""
    first, second = (json.loads(line) for line in dump_lines(two()))
    assert list(first.items()) == [
        ("probe", "quiz"),
        ("model", "sft"),
        ("unit", "item"),
        ("id", "0000000000000abc"),
        ("group", "p"),
        ("slice", "rivers"),
        ("confidence", 0.9),
        ("correct", False),
        ("probabilities", [0.1, 0.9]),
        ("label", 0),
        ("option_mass", 0.75),
        ("label_logprob", -2.5),
        ("name", "row-1"),
        ("prompt", "Which river?"),
        ("options", ["Ochre", "Teal"]),
        ("gold", "Ochre"),
        ("answer", "Teal"),
    ]
    assert second == {
        **{key: first[key] for key in ("probe", "model", "unit", "group", "label")},
        "id": "ffffffffffffffff",
        "slice": "",
        "confidence": 0.625,
        "correct": True,
        "probabilities": [0.625, 0.375],
        "option_mass": 0.5,
        "label_logprob": -0.47,
        "prompt": "And this?",
        "gold": "Ochre",
        "answer": "Ochre",
    }


def test_what_does_not_apply_is_left_out() -> None:
    """Confidences alone give six keys and no null."""
    one = Predictions.from_confidence([0.5], [True], probe="own")
    (line,) = dump_lines(one)
    assert json.loads(line) == {
        "probe": "own",
        "unit": "item",
        "id": f"{int(one.item_ids[0]):016x}",
        "confidence": 0.5,
        "correct": True,
    }


def test_the_baseline_stands_beside_each_item() -> None:
    """Both runs in one line, so that what changed can be found without a join."""
    before = Predictions("quiz", np.array([0.3, 0.25]), np.array([True, False]), two().item_ids)
    rows = [json.loads(line) for line in dump_lines(two(), before)]
    assert [(r["confidence_before"], r["correct_before"]) for r in rows] == [
        (0.3, True),
        (0.25, False),
    ]


def test_a_baseline_on_other_items_is_refused() -> None:
    """Numbers of one item never stand beside those of another."""
    before = Predictions("quiz", [0.3], [True], [77])
    with pytest.raises(PredictionsError) as caught:
        list(dump_lines(two(), before))
    assert str(caught.value) == (
        "predictions of probe 'quiz': the baseline has none of these items."
    )


@pytest.mark.parametrize("places", [[1, 0], [1], [0]])
def test_a_baseline_pairs_by_id(places: list[int], tmp_path: Path) -> None:
    """In any order, and on a part of the items; the others have no values of it."""
    before = Predictions("quiz", np.array([0.3, 0.25]), np.array([True, False]), two().item_ids)
    path = write_dump(tmp_path, two(), before.take(np.array(places)))
    rows = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    for i, row in enumerate(rows):
        if i in places:
            assert row["confidence_before"] == before.confidence[i]
            assert row["correct_before"] == before.correct[i]
        else:
            assert not {"confidence_before", "correct_before"} & {*row}
    made, again = read_both(path)
    assert again is not None
    there = np.sort(places)
    np.testing.assert_array_equal(made.item_ids, two().item_ids)
    np.testing.assert_array_equal(again.item_ids, before.item_ids[there])
    np.testing.assert_array_equal(again.confidence, before.confidence[there])
    np.testing.assert_array_equal(again.correct, before.correct[there])


def test_a_dump_with_a_baseline_is_kept_within_a_run(tmp_path: Path) -> None:
    """Without one, the same items replace only what an earlier run wrote."""
    before = Predictions("quiz", np.array([0.3, 0.25]), np.array([True, False]), two().item_ids)
    path = write_dump(tmp_path, two(), before)
    written = path.stat().st_mtime
    assert write_dump(tmp_path, two(), since=written - 60) == path
    assert read_both(path)[1] is not None
    write_dump(tmp_path, two(), before, since=written - 60)
    assert read_both(path)[1] is not None
    write_dump(tmp_path, two(), since=written + 60)
    assert read_both(path)[1] is None


def test_without_words_no_text_is_written() -> None:
    """Ids, names, groups, slices and numbers stay; nothing that was asked or answered."""
    lines = list(dump_lines(two(), item_text=False))
    assert not re.search("prompt|options|gold|answer|Ochre|Teal|river[^s]|this", "\n".join(lines))
    kept = [json.loads(line) for line in lines]
    assert kept[0]["name"] == "row-1"
    assert [row["slice"] for row in kept] == ["rivers", ""]
    assert set(kept[0]) == {*json.loads(next(dump_lines(two())))} - {
        "prompt", "options", "gold", "answer",
    }  # fmt: skip


def test_a_dump_obeys_nothing_and_breaks_nowhere() -> None:
    """One printable ASCII line per item, whatever an item, a probe or a model is called."""
    one = predictions(model=HOSTILE, n=4)
    lines = list(dump_lines(one))
    assert len(lines) == one.n
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
    assert json.loads(lines[1])["prompt"] == f"{HOSTILE} 1?"
    assert json.loads(lines[1])["model"] == HOSTILE


@pytest.mark.parametrize("ending", ["\u2028", "\x85", "\x0b", "\x1e", "\r", "\r\n"])
def test_no_character_of_a_text_ends_a_line(tmp_path: Path, ending: str) -> None:
    """Programs disagree on what ends a line; in a dump only a line feed is there to disagree on."""
    text = ItemText(f"a{ending}b")
    one = two(texts=ItemTexts.from_list([text, text]))
    path = write_dump(tmp_path, one)
    assert len(path.read_text("utf-8").splitlines()) == 2
    same(one, read_dump(path))


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    """What is no character would make the line unreadable for other programs."""
    texts = [ItemText(prompt="a\ud800b", options=("\udc00",)), ItemText(prompt="\U0001f600")]
    path = write_dump(
        tmp_path, two(texts=ItemTexts.from_list(texts), groups=np.array(["\ud801"] * 2))
    )
    assert "\\ud800b" not in path.read_text("ascii")
    found = read_dump(path)
    assert found.texts is not None
    assert found.groups is not None
    assert found.texts[0] == ItemText(prompt="a\ufffdb", options=("\ufffd",))
    assert found.texts[1].prompt == "\U0001f600"
    assert found.groups.tolist() == ["\ufffd"] * 2


def test_lines_are_made_one_after_the_other() -> None:
    """Only what is asked for is made: a million texts are never in memory at once."""
    made: list[int] = []

    def of(row: int) -> ItemText:
        made.append(row)
        return ItemText(prompt=str(row))

    n = 20_000
    many = Predictions(
        "many",
        np.full(n, 0.5),
        np.ones(n, bool),
        np.arange(n, dtype=np.uint64),
        texts=ItemTexts(of, np.arange(n)),
    )
    lines = dump_lines(many)
    for _ in range(5):
        next(lines)
    assert made == [0, 1, 2, 3, 4]


# --- the file ------------------------------------------------------------------------------------


def test_the_file_is_named_by_probe_model_and_number_of_items(tmp_path: Path) -> None:
    """A reader finds it, in a folder that is made for it."""
    folder = tmp_path / "a" / "b"
    path = write_dump(folder, two())
    assert path.parent == folder
    assert re.fullmatch(r"quiz@sft-2-[0-9a-f]{8}\.jsonl", path.name)
    assert path.read_text("ascii") == "".join(f"{line}\n" for line in dump_lines(two()))
    assert os.listdir(folder) == [path.name]


def test_a_model_without_name_is_left_out_of_the_file_name() -> None:
    """Arrays come from no model."""
    assert re.fullmatch(r"quiz-2-[0-9a-f]{8}\.jsonl", dump_name(two(signature=Signature())))


def test_two_tests_of_the_same_predictions_write_the_same_file(tmp_path: Path) -> None:
    """Same name and same bytes, whichever comes first or last."""
    path = write_dump(tmp_path, two())
    first = path.read_bytes()
    assert write_dump(tmp_path, two()) == path
    assert path.read_bytes() == first
    assert len(os.listdir(tmp_path)) == 1


def test_a_later_run_on_the_same_items_replaces_an_earlier_one(tmp_path: Path) -> None:
    """The file says what is true now, and holds no text where that is no longer wanted."""
    before = predictions(n=50)
    after = predictions(n=50, sharpen=3)
    path = write_dump(tmp_path, before)
    assert write_dump(tmp_path, after, item_text=False) == path
    found = read_dump(path)
    assert found.confidence.tobytes() == after.confidence.tobytes()
    assert "prompt" not in path.read_text("ascii")


@pytest.mark.parametrize("limits", [(10, 50), (50, 10)])
def test_a_smaller_limit_never_takes_the_place_of_a_larger(
    tmp_path: Path, limits: tuple[int, int]
) -> None:
    """Each selection of items has a file of its own, in whatever order they are written."""
    whole = predictions(n=50)
    paths = {limit: write_dump(tmp_path, whole.limited(limit)) for limit in limits}
    assert {limit: read_dump(path).n for limit, path in paths.items()} == {10: 10, 50: 50}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: two(signature=Signature({"shots": "3"}, {"model": "dpo"})), id="m"),
        pytest.param(lambda: two(signature=Signature({"shots": "3"}, {"model": "SFT"})), id="M"),
        pytest.param(lambda: two(signature=Signature({"shots": "3"}, {"model": ""})), id="none"),
        pytest.param(lambda: two(signature=Signature({"shots": "4"}, {"model": "sft"})), id="hard"),
        pytest.param(lambda: two().take(np.array([0])), id="fewer"),
        pytest.param(lambda: replace(two(), item_ids=np.array([1, 2])), id="ids"),
        pytest.param(lambda: replace(two(), probe="Quiz"), id="Q"),
    ],
)  # fmt: skip
def test_what_differs_has_its_own_file(other: Callable[[], Predictions]) -> None:
    """No two models, probes, settings or sets of items share one, on any file system."""
    assert dump_name(other()).lower() != dump_name(two()).lower()


def test_probe_and_model_are_not_mixed_up() -> None:
    """Where one name ends and the next begins is part of the file name."""

    def name(probe: str, model: str) -> str:
        ids = np.array([1], dtype=np.uint64)
        soft = Signature(soft={"model": model})
        return dump_name(Predictions(probe, np.ones(1), np.ones(1, bool), ids, signature=soft))

    assert len({name("a@b", "c"), name("a", "b@c"), name("a-b", "c"), name("a", "b-c")}) == 4


@pytest.mark.parametrize(
    "hostile",
    ["../../etc/passwd", "..", ".", "/abs", "a\\b", "C:x", "con", "NUL.txt", "x" * 3000, "模型",
     HOSTILE, "a b", "-rf", "$(x)", "a\ud800", "*"],
)  # fmt: skip
def test_names_stay_in_the_folder(tmp_path: Path, hostile: str) -> None:
    """Whatever a probe or a model is called, its file is a plain one that can be written."""
    signature = Signature(soft={"model": hostile})
    models = write_dump(tmp_path / "d", two(signature=signature))
    written = [models]
    if hostile.isprintable():
        one = Predictions(hostile, np.ones(1), np.ones(1, bool), np.array([1], dtype=np.uint64))
        written.append(write_dump(tmp_path / "d", one))
        assert read_dump(written[-1]).probe == hostile
    for path in written:
        assert path.parent == tmp_path / "d"
        assert re.fullmatch(r"[A-Za-z0-9._@-]{1,220}\.jsonl", path.name)
        assert path.is_file()
    assert sorted(os.listdir(tmp_path)) == ["d"]
    assert len(os.listdir(tmp_path / "d")) == len(written)


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """The half written file has no ending of a dump; where writing fails, the old one stays."""
    path = write_dump(tmp_path, two())
    old = path.read_bytes()
    seen: list[list[str]] = []

    def of(row: int) -> ItemText:
        seen.append(sorted(name for name in os.listdir(tmp_path) if name.endswith(".jsonl")))
        if row == 1:
            raise KeyboardInterrupt
        return ItemText()

    with pytest.raises(KeyboardInterrupt):
        write_dump(tmp_path, two(texts=ItemTexts(of, np.arange(2))))
    assert seen == [[path.name]] * 2
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == old


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file in the place of the folder, or of one above it, is one clear error."""
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UsageError) as caught:
        write_dump(file, two())
    assert str(caught.value) == f"{file}: is a file, and items are dumped into a folder."
    with pytest.raises(UsageError) as caught:
        write_dump(file / "below", two())
    path = file / "below" / dump_name(two())
    assert str(caught.value) == (
        f"{path}: cannot be written (Not a directory); name another folder."
    )


# --- reading -------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "probe": "quiz",
    "model": "sft",
    "unit": "item",
    "id": "0123456789abcdef",
    "group": "p",
    "confidence": 0.9,
    "correct": True,
    "probabilities": [0.1, 0.9],
    "label": 1,
    "option_mass": 0.7,
    "label_logprob": -0.1,
    "name": "row",
    "prompt": "?",
    "options": ["a", "b"],
    "gold": "b",
    "answer": "b",
}


def line(number: int = 0, without: str = "", **more: Any) -> str:
    """Return a good line with some keys changed."""
    row = {**GOOD, "id": f"{number:016x}", **more}
    return json.dumps({key: value for key, value in row.items() if key != without})


BAD = [
    ("{", "is no JSON (Expecting property name enclosed in double quotes, column 2)."),
    ("nonsense", "is no JSON (Expecting value, column 1)."),
    ("[1]", "the line must be an object, got a list."),
    ("7", "the line must be an object, got 7."),
    ("[" * 100_000, "is no JSON ("),
    (line(1, confidence=float("nan")), "NaN is no finite number."),
    (line(1, confidence=float("inf")), "Infinity is no finite number."),
    (line(1).replace("0.9,", "1e999,", 1), "1e999 is no finite number."),
    *((line(1, without=key), f"the line lacks {key}.") for key in ("probe", "id", "correct")),
    (line(1, id=None), "id must be 16 hexadecimal digits, got null."),
    (line(1, id=12), "id must be 16 hexadecimal digits, got 12."),
    (line(1, id="0x00000000000001"), 'id must be 16 hexadecimal digits, got "0x00000000000001".'),
    (line(1, id="0" * 17), 'id must be 16 hexadecimal digits, got "00000000000000000".'),
    (line(1, id="٠" * 16), "id must be 16 hexadecimal digits, got "),
    (line(1, id="0" * 16 + "\n"), "id must be 16 hexadecimal digits, got "),
    *(
        (line(1, confidence=bad), f"confidence must be a number in [0, 1], got {text}.")
        for bad, text in ((1.5, "1.5"), (-1e-9, "-1e-09"), (True, "true"), ("0.5", '"0.5"'))
    ),
    (line(1, confidence=10**400), "confidence must be a number in [0, 1], got 1000"),
    (line(1, correct=1), "correct must be true or false, got 1."),
    (line(1, unit="word"), 'unit must be one of "item", "token" or null, got "word".'),
    (line(1, unit=[]), 'unit must be one of "item", "token" or null, got a list.'),
    (line(1, probe=3), "probe must be text, got 3."),
    (line(1, group=["p"]), "group must be text or null, got a list."),
    (line(1, prompt=HOSTILE[:30], gold=1), "gold must be text or null, got 1."),
    (line(1, options="ab"), 'options must be a list or null, got "ab".'),
    (line(1, options=["a", 1]), "options[1] must be text, got 1."),
    (line(1, probabilities=[0.5, 1.5]), "probabilities[1] must be a number in [0, 1], got 1.5."),
    (line(1, probabilities=[]), "probabilities must be a list of numbers or null, got a list."),
    (line(1, probabilities=0.5), "probabilities must be a list of numbers or null, got 0.5."),
    (line(1, label=2), "label is 2, and there are 2 probabilities."),
    *(
        (line(1, label=bad), f"label must be a whole number of at least 0 or null, got {text}.")
        for bad, text in ((-1, "-1"), (1.0, "1.0"), (True, "true"), (2**63, str(2**63)))
    ),
    (line(1, option_mass="x"), 'option_mass must be a number or null, got "x".'),
    (line(1, label_logprob=0.1), "label_logprob must be log P(correct answer), at most 0 or "),
    (line(1, confidence_before=2), "confidence_before must be a number in [0, 1] or null, got 2."),
    (line(1, correct_before="no"), 'correct_before must be true or false or null, got "no".'),
    (line(1, correct="\x1b[31m" + "x" * 99), r'correct must be true or false, got "\u001b[31m'),
    (line(1, without="group"), "has no group, and line 1 has one; all items have it or none."),
    (line(1, slice="s"), "has slice, and line 1 has not; all items have it or none."),
    (line(1, confidence_before=0.5),
     "has one of confidence_before and correct_before; it needs both, or none."),
    (line(1, probabilities=[0.1, 0.8, 0.1]),
     "has 3 probabilities, and line 1 has 2; fill up with zeros."),
    *(
        (line(1, **{key: new}), f'{key} is {json.dumps(new)}, and "{GOOD[key]}" in line 1; a dump '
         f"holds one probe of one model: keep the lines of one {key}.")
        for key, new in (("probe", "other"), ("model", "dpo"), ("model", None), ("unit", "token"))
    ),
    (line(0), "has the id of line 1; an item stands in one line."),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_line_is_named(tmp_path: Path, bad: str, message: str) -> None:
    """File, line, what is wrong and what was found, in one line that a terminal can show."""
    path = write(tmp_path / "x.jsonl", [line(0), line(7), bad, line(8)])
    with pytest.raises(PredictionsError) as caught:
        read_dump(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}, line 3: {message}")
    assert sentence.isprintable()
    assert len(sentence) < len(str(path)) + 200


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """A file in another encoding is named by its first line that is not UTF-8."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(f"{line(0)}\n".encode() + '{"probe": "é"}\n'.encode("latin-1"))
    with pytest.raises(PredictionsError) as caught:
        read_dump(path)
    assert str(caught.value) == f"{path}: cannot be read (line 2 is not UTF-8); save it as UTF-8."


def test_what_other_programs_write_is_read(tmp_path: Path) -> None:
    """Null is left out, further keys are left alone; blank lines, a BOM, CRLF, text as UTF-8."""
    row = {**GOOD, "name": None, "note": {"mine": [1]}, "slice": None, "prompt": "é 首都"}
    text = f"\ufeff{json.dumps(row, ensure_ascii=False)}\r\n\r\n  \n"
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode())
    found = read_dump(path)
    assert found.n == 1
    assert found.slices is None
    assert found.texts is not None
    assert found.texts[0] == ItemText("é 首都", "b", "b", ("a", "b"))
    assert found.item_ids.tolist() == [0x0123456789ABCDEF]


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    """The line named is the one an editor shows."""
    path = write(tmp_path / "x.jsonl", ["", line(0), "", "{}"])
    with pytest.raises(PredictionsError, match=r"line 4: the line lacks probe\.$"):
        read_dump(path)
    write(path, ["", "", line(3), line(0), "", "", line(1), "", line(0)])
    with pytest.raises(PredictionsError, match=r"line 9: has the id of line 4; an item"):
        read_dump(path)
    write(path, ["", line(3), "", line(0, model="dpo")])
    with pytest.raises(PredictionsError, match='line 4: model is "dpo", and "sft" in'):
        read_dump(path)


def test_a_file_that_holds_nothing_is_told(tmp_path: Path) -> None:
    """Missing, empty, or a folder."""
    path = tmp_path / "x.jsonl"
    with pytest.raises(PredictionsError) as caught:
        read_dump(path)
    assert str(caught.value) == f"{path}: there is no such file."
    write(path, ["", " "])
    with pytest.raises(PredictionsError) as caught:
        read_dump(path)
    assert str(caught.value) == f"{path}: holds no items; a dump has one a line."
    with pytest.raises(PredictionsError) as caught:
        read_dump(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read (it is a folder); name a file."


def test_a_probe_that_cannot_be_is_told_with_its_file(tmp_path: Path) -> None:
    """What the predictions refuse is named with its file."""
    path = write(tmp_path / "x.jsonl", [line(0, probe="a\nb")])
    with pytest.raises(PredictionsError) as caught:
        read_dump(path)
    assert str(caught.value) == f"{path}: a probe needs a printable name, got 'a\\nb'."


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
    st.sampled_from([*GOOD, "slice", "confidence_before", "correct_before"]),
)
def test_any_value_under_any_key_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, value: Any, key: str
) -> None:
    """A reader meets a PredictionsError with file and line, never another exception."""
    path = write(tmp_path_factory.mktemp("dump") / "x.jsonl", [json.dumps({**GOOD, key: value})])
    sentence = ""
    try:
        assert read_dump(path).n == 1
    except PredictionsError as problem:
        sentence = str(problem)
    assert not sentence or sentence.startswith(f"{path}")
    assert all(unicodedata.category(c) != "Cc" for c in sentence)
