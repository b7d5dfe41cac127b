"""What every probe shares: rows of a file, ids of items, limits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_calibration import Facts, MultipleChoice, NextToken
from pytest_calibration.errors import ItemError, ProbeError, UsageError
from pytest_calibration.probes.probe import Probe, chosen, item_ids

ROWS: dict[str, dict[str, object]] = {
    "facts": {"prompt": "The capital of France is", "answer": "Paris"},
    "multiple_choice": {"question": "2 + 2?", "options": ["3", "4"], "answer": 1},
    "next_token": {"text": "Once upon a time"},
}
PROBES: dict[str, Callable[..., Probe]] = {
    "facts": Facts,
    "multiple_choice": MultipleChoice,
    "next_token": NextToken,
}


def write(path: Path, *rows: object) -> Path:
    """Write rows as JSONL; text is written as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROBES)
def test_a_path_may_be_text(tmp_path: Path, kind: str) -> None:
    """As in ``calibration.yaml``; what is no path is named, and a missing file is an error."""
    path = write(tmp_path / "items.jsonl", ROWS[kind])
    assert PROBES[kind]("mine", path=str(path)).size == 1
    for missing in ("nowhere.jsonl", ""):
        with pytest.raises(ItemError, match=r"^(nowhere.jsonl|\.): "):
            PROBES[kind]("mine", path=missing)
    with pytest.raises(ItemError, match=r"^the path of an items file must be text or a .*got 3\.$"):
        PROBES[kind]("mine", path=3)


def test_the_path_of_solved_examples_may_be_text(tmp_path: Path) -> None:
    """It is read like that of the questions."""
    rows = [ROWS["multiple_choice"] | {"question": f"{i} + 2?"} for i in range(2)]
    path = str(write(tmp_path / "items.jsonl", *rows))
    assert MultipleChoice("mine", path=path, shots=1, shots_path=path).size == 2


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROBES)
def test_blank_lines_are_skipped_and_rows_counted(tmp_path: Path, kind: str) -> None:
    """Every other line is one item; the last needs no line break."""
    row = json.dumps(ROWS[kind])
    path = tmp_path / "rows.jsonl"
    path.write_bytes(f"\n{row}\r\n   \n\t\n{row}\n\n{row}".encode())
    assert PROBES[kind](path=path).size == 3


def without(kind: str, key: str) -> dict[str, object]:
    """A good row less one key."""
    return {k: v for k, v in ROWS[kind].items() if k != key}


BAD_ROWS = [
    ("facts", without("facts", "prompt"), r"the key 'prompt' is missing"),
    ("facts", without("facts", "answer"), r"the key 'answer' is missing"),
    ("facts", {**ROWS["facts"], "answer": 3}, r"'answer' must be text, got 3"),
    ("facts", {**ROWS["facts"], "prompt": "  "}, r"'prompt' must not be empty"),
    ("facts", {**ROWS["facts"], "prompt": None}, r"'prompt' must be text, got None"),
    ("facts", {**ROWS["facts"], "subject": "x"}, r"unknown key 'subject'; known keys: prompt, an"),
    ("next_token", {}, r"the key 'text' is missing"),
    ("next_token", {"text": ["a"]}, r"'text' must be text, got \['a'\]"),
    ("next_token", {"text": "a", "label": 1}, r"unknown key 'label'; known keys: text, id, group"),
    *(
        ("multiple_choice", without("multiple_choice", key), rf"the key '{key}' is missing")
        for key in ROWS["multiple_choice"]
    ),
    *(
        ("multiple_choice", {**ROWS["multiple_choice"], "options": options}, message)
        for options, message in [
            ("34", r"'options' must be a list of texts, got '34'"),
            ([3, 4], r"'options' must be a list of texts, got \[3, 4\]"),
            (["3", " "], r"'options' must be a list of texts, got \['3', ' '\]"),
            (["3"], r"'options' must be 2 to 26 texts, got 1"),
            ([], r"'options' must be 2 to 26 texts, got 0"),
            ([str(i) for i in range(27)], r"'options' must be 2 to 26 texts, got 27"),
            (["4", "4"], r"'options' must be distinct, got \['4', '4'\]"),
        ]
    ),
    *(
        ("multiple_choice", {**ROWS["multiple_choice"], "answer": answer}, message)
        for answer, message in [
            (2, r"'answer' must be an index from 0 to 1, got 2"),
            (-1, r"'answer' must be an index from 0 to 1, got -1"),
            (1.0, r"'answer' must be the index of an option, got 1\.0"),
            (True, r"'answer' must be the index of an option, got True"),
            ("B", r"'answer' must be the index of an option, got 'B'"),
        ]
    ),
    *(
        (kind, {**ROWS[kind], key: value}, rf"'{key}' must be text or a whole number, got {value}")
        for kind in PROBES
        for key in ("id", "group")
        for value in (True, 1.5)
    ),
    *((kind, "{not json", r"is no JSON \(Expecting property name") for kind in PROBES),
    *((kind, "[1]", r"must be a JSON object, got list") for kind in PROBES),
    *((kind, "null", r"must be a JSON object, got NoneType") for kind in PROBES),
    ("facts", '{"prompt": "a", "prompt": "b", "answer": "c"}', r"the key 'prompt' is given twice"),
    ("next_token", "[" * 100_000, r"is no JSON \(maximum recursion depth"),
    ("next_token", {"text": "x" * (1 << 20)}, r"is longer than 1,048,576 characters"),
]


@pytest.mark.parametrize(("kind", "row", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, kind: str, row: object, message: str
) -> None:
    """The first bad row stops the reading; its line counts blank lines too."""
    path = write(tmp_path / "rows.jsonl", ROWS[kind], "", row, ROWS[kind])
    with pytest.raises(ItemError, match=rf"rows\.jsonl, line 3: {message}"):
        PROBES[kind](path=path)


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("content", ["", "\n \n"], ids=["empty", "blank"])
def test_a_file_without_rows_is_refused(tmp_path: Path, kind: str, content: str) -> None:
    """A probe without items measures nothing; the message says what a row is."""
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(
        ItemError, match=r"rows\.jsonl: holds no rows; write one JSON object a line"
    ):
        PROBES[kind](path=path)


@pytest.mark.parametrize("kind", PROBES)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    """A missing file, a folder, and bytes that are not UTF-8 are errors without a line."""
    with pytest.raises(ItemError, match=r"none\.jsonl: there is no such file"):
        PROBES[kind](path=tmp_path / "none.jsonl")
    with pytest.raises(ItemError, match=r"cannot be read \("):
        PROBES[kind](path=tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}\n')
    with pytest.raises(ItemError, match=r"latin\.jsonl: cannot be read \("):
        PROBES[kind](path=tmp_path / "latin.jsonl")


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("joined", ["{bom}{row}", "{bom}\n{row}", "{row}\n{bom}{row2}"])
def test_a_byte_order_mark_is_no_part_of_a_row(tmp_path: Path, kind: str, joined: str) -> None:
    """Windows begins a file with one; files that were joined have one in the middle."""
    rows = [json.dumps({**ROWS[kind], "id": name}) for name in "ab"]
    text = joined.format(bom="\ufeff", row=rows[0], row2=rows[1])
    path = write(tmp_path / "rows.jsonl", text)
    assert [item.id for item in PROBES[kind](path=path).items] == ["a", "b"][: text.count("{")]


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_what_windows_calls_unicode_is_named(tmp_path: Path, kind: str, encoding: str) -> None:
    """PowerShell writes UTF-16 where it is asked for Unicode."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(ROWS[kind]).encode(encoding))
    with pytest.raises(ItemError, match=r"\(it is UTF-16 or UTF-32 text\); save it as UTF-8"):
        PROBES[kind](path=path)


@pytest.mark.parametrize("kind", PROBES)
def test_a_line_in_another_encoding_is_named(tmp_path: Path, kind: str) -> None:
    """However far down it is."""
    path = tmp_path / "rows.jsonl"
    row = json.dumps(ROWS[kind])
    path.write_bytes(f"{row}\n".encode() * 4000 + f"{row} é".encode("latin-1"))
    with pytest.raises(ItemError, match=r"rows\.jsonl: .*\(line 4001 is not UTF-8\); save it"):
        PROBES[kind](path=path)


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("what", ["a device", "a pipe"])
def test_what_has_no_end_is_refused_by_its_kind(tmp_path: Path, kind: str, what: str) -> None:
    """It is not opened: a device fills the memory, a pipe waits for its writer."""
    path = tmp_path / "rows.jsonl"
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ItemError, match=rf"rows\.jsonl: cannot be read \(it is {what}\)"):
        PROBES[kind](path=path)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    """A line is read up to its bound, whatever the file holds."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(ItemError, match="UTF-16"):
        Facts(path=path)
    with path.open("r+b") as file:
        file.write(b"{}")
    with pytest.raises(ItemError, match=r"line 1: is longer than 1,048,576 characters"):
        Facts(path=path)


@pytest.mark.parametrize("kind", PROBES)
def test_a_pointer_of_git_lfs_is_no_items_file(tmp_path: Path, kind: str) -> None:
    """The message names the command that fetches the file."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n"
    path = write(tmp_path / "rows.jsonl", text)
    with pytest.raises(ItemError, match=r"rows\.jsonl: is a pointer of Git LFS, .*git lfs pull"):
        PROBES[kind](path=path)


TEXTS = [
    *(("facts", "prompt"), ("facts", "answer"), ("next_token", "text")),
    *(("multiple_choice", "question"), ("multiple_choice", "options")),
]


@pytest.mark.parametrize(("kind", "key"), TEXTS)
@pytest.mark.parametrize("half", ["\ud83d", "\ude00\ud83d"])
def test_half_a_surrogate_pair_is_named_by_line(
    tmp_path: Path, kind: str, key: str, half: str
) -> None:
    """No tokenizer reads one; both halves in their order are a character."""
    value = ROWS[kind][key]

    def with_text(text: str) -> str:
        new = [*value[:-1], f"x {text}"] if isinstance(value, list) else f"x {text}"
        return json.dumps({**ROWS[kind], key: new})

    path = write(tmp_path / "rows.jsonl", with_text("\ud83d\ude00"), with_text(half))
    with pytest.raises(ItemError, match=rf"line 2: '{key}' holds half a surrogate pair") as caught:
        PROBES[kind](path=path)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("kind", PROBES)
def test_half_a_surrogate_pair_may_stand_in_a_name(tmp_path: Path, kind: str) -> None:
    """Ids and groups are compared, never tokenised."""
    path = write(tmp_path / "rows.jsonl", json.dumps({**ROWS[kind], "id": "a\ud83d"}))
    assert PROBES[kind](path=path).items[0].id == "a\ud83d"


@pytest.mark.parametrize("kind", PROBES)
def test_a_message_shows_a_bounded_part_of_a_row(tmp_path: Path, kind: str) -> None:
    """However large a key or value is, and whatever it holds."""
    path = tmp_path / "rows.jsonl"
    for row in (
        {**ROWS[kind], "\x1b[31m" * 9999: 1},
        {**ROWS[kind], "id": [10**4000] * 99},
        {key: ["x" * 99_999] for key in ROWS[kind]},
    ):
        write(path, json.dumps(row))
        with pytest.raises(ItemError) as caught:
            PROBES[kind](path=path)
        assert len(str(caught.value)) < len(str(path)) + 400
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", PROBES)
def test_a_separator_inside_text_ends_no_row(tmp_path: Path, kind: str) -> None:
    """Unicode knows more line ends than JSONL does: only line feeds end a row."""
    row = {k: f"{v} a\u2028b\x85c" if isinstance(v, str) else v for k, v in ROWS[kind].items()}
    path = write(tmp_path / "rows.jsonl", json.dumps(row, ensure_ascii=False))
    assert PROBES[kind](path=path).size == 1


# --- ids -----------------------------------------------------------------------------------------


def ids(contents: list[tuple[object, ...]], own: list[str | None] | None = None) -> list[int]:
    """Item ids as numbers."""
    given = own if own is not None else [None] * len(contents)
    return [int(i) for i in item_ids(contents, given, "salt")]


contents = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=12)


@given(contents)
def test_ids_are_distinct_even_of_equal_items(items: list[tuple[object, ...]]) -> None:
    """The second of two equal items is another item than the first."""
    assert len(set(ids(items))) == len(items)


@given(contents, contents)
def test_an_appended_item_leaves_the_ids_before_it_alone(
    items: list[tuple[object, ...]], more: list[tuple[object, ...]]
) -> None:
    """A file may grow at its end and every old item keeps its id."""
    assert ids(items + more)[: len(items)] == ids(items)


@given(st.lists(st.tuples(st.text(max_size=3)), unique=True, max_size=8), st.randoms())
def test_distinct_items_keep_their_ids_in_any_order(
    items: list[tuple[object, ...]], random: st.randoms
) -> None:
    """Ids depend on content, never on the position in the file."""
    shuffled = list(items)
    random.shuffle(shuffled)
    assert dict(zip(items, ids(items), strict=True)) == dict(
        zip(shuffled, ids(shuffled), strict=True)
    )


def test_an_id_depends_on_content_own_id_and_probe() -> None:
    """Each part that changes gives another id, and no part runs into its neighbour."""
    variants = [
        ids([("ab", "c")])[0],
        ids([("a", "bc")])[0],
        ids([("ab", "c", "")])[0],
        ids([("ab", "c")], ["one"])[0],
        ids([("ab", "c")], ["two"])[0],
        int(item_ids([("ab", "c")], [None], "other")[0]),
    ]
    assert len(set(variants)) == len(variants)


@given(st.integers(0, 60), st.integers(1, 70), st.integers(1, 70))
def test_a_smaller_limit_is_a_subset_of_a_larger(n: int, one: int, other: int) -> None:
    """Chosen positions are as many as asked for, in source order, and nested."""
    keys = item_ids([(i,) for i in range(n)], [None] * n, "salt")
    small, large = chosen(keys, min(one, other)), chosen(keys, max(one, other))
    assert set(small) <= set(large)
    assert len(small) == min(n, one, other)
    assert small == sorted(small)
    assert chosen(keys, None) == list(range(n))


@given(st.lists(st.text(max_size=3), unique=True, min_size=1), st.randoms(), st.integers(1, 10))
def test_a_limit_takes_the_same_items_in_whatever_order_they_stand(
    texts: list[str], random: st.randoms, limit: int
) -> None:
    """A file that is sorted, or grows in the middle, is not another sample."""
    shuffled = list(texts)
    random.shuffle(shuffled)
    samples = []
    for order in (texts, shuffled):
        keys = item_ids([(text,) for text in order], [None] * len(order), "salt")
        samples.append({order[i] for i in chosen(keys, limit)})
    assert samples[0] == samples[1]


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_refused(tmp_path: Path, kind: str, limit: int) -> None:
    """A run of no items measures nothing."""
    path = write(tmp_path / "rows.jsonl", ROWS[kind])
    with pytest.raises(UsageError, match=rf"a limit must be at least 1, got {limit}"):
        PROBES[kind](path=path).run(FakeModel(), limit=limit)


def test_an_item_without_a_group_is_in_nobodys(tmp_path: Path) -> None:
    """Rows without a group, or with an empty one, each stand alone, whatever others are called."""
    rows = [
        {"question": f"{i}?", "options": ["a", "b"], "answer": 0, **more}
        for i, more in enumerate([{"group": "#2"}, {"group": "#2"}, {}, {"group": ""}, {}])
    ]
    probe = MultipleChoice("quiz", path=write(tmp_path / "rows.jsonl", *rows))
    assert probe.run(FakeModel()).n_clusters == 4


# --- all kinds alike -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def builtin() -> dict[str, Probe]:
    """The built-in probe of each kind."""
    return {kind: make() for kind, make in PROBES.items()}


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_tells_what_it_is(builtin: dict[str, Probe], kind: str) -> None:
    """Each kind fulfils the protocol and is named after itself by default."""
    probe = builtin[kind]
    assert isinstance(probe, Probe)
    assert (probe.name, probe.kind) == (kind, kind)
    assert probe.unit in {"facts", "questions", "documents"}


@pytest.mark.parametrize("kind", ["facts", "multiple_choice"])
def test_every_item_is_scored(builtin: dict[str, Probe], kind: str) -> None:
    """As many answers as items, and a limit gives exactly as many."""
    assert builtin[kind].run(FakeModel()).n == builtin[kind].size
    assert builtin[kind].run(FakeModel(), limit=123).n == 123


@pytest.mark.parametrize("kind", PROBES)
def test_two_models_are_asked_the_same(builtin: dict[str, Probe], kind: str) -> None:
    """Ids, groups and hard signature agree between runs and models; the model's name differs."""
    one = builtin[kind].run(FakeModel("one"))
    other = builtin[kind].run(FakeModel("other", sharpen=0.5))
    assert np.array_equal(one.item_ids, other.item_ids)
    assert one.groups is not None
    assert other.groups is not None
    assert np.array_equal(one.groups, other.groups)
    assert one.signature.hard_differences(other.signature) == []
    assert one.signature.soft["model"] == "one"
    assert not np.array_equal(one.confidence, other.confidence)


@pytest.mark.parametrize("kind", PROBES)
@settings(max_examples=15)
@given(limits=st.tuples(st.integers(1, 900), st.integers(1, 900)))
def test_a_limited_run_is_part_of_a_longer_one(
    builtin: dict[str, Probe], kind: str, limits: tuple[int, int]
) -> None:
    """The items of a smaller limit are among those of a larger, with the same scores."""
    small, large = (builtin[kind].run(FakeModel(), limit=limit) for limit in sorted(limits))
    where = {int(key): i for i, key in enumerate(large.item_ids)}
    index = np.array([where[int(key)] for key in small.item_ids])
    assert small.n == min(limits)
    assert np.array_equal(large.confidence[index], small.confidence)
    assert np.array_equal(large.correct[index], small.correct)


@pytest.mark.parametrize("kind", PROBES)
def test_the_probe_s_name_salts_its_ids(tmp_path: Path, kind: str) -> None:
    """Two probes on one file share no item id, so that neither can stand in for the other."""
    path = write(tmp_path / "rows.jsonl", ROWS[kind])
    one, other = (PROBES[kind](name, path=path).run(FakeModel()) for name in ("a", "b"))
    assert not set(one.item_ids.tolist()) & set(other.item_ids.tolist())


class Forgetful(FakeModel):
    """Leaves out the last text."""

    def option_logprobs(self, prompts, options):  # type: ignore[no-untyped-def]
        """All but the last."""
        return super().option_logprobs(prompts, options)[:-1]

    def next_token(self, texts, *, choose=None):  # type: ignore[no-untyped-def]
        """All but the last."""
        return super().next_token(texts, choose=choose)[:-1]


@pytest.mark.parametrize("kind", PROBES)
def test_a_model_that_leaves_out_a_text_fails_the_probe(tmp_path: Path, kind: str) -> None:
    """No item is dropped in silence: the probe fails by name and says how many are missing."""
    path = write(tmp_path / "rows.jsonl", ROWS[kind], ROWS[kind])
    with pytest.raises(ProbeError, match=r"probe 'mine': 1 of 2 items were scored; none may be"):
        PROBES[kind]("mine", path=path).run(Forgetful())


class Partial(FakeModel):
    """Scores one position, or option, fewer than it was asked for."""

    def option_logprobs(self, prompts, options):  # type: ignore[no-untyped-def]
        """All options but the last."""
        return [row[:-1] for row in super().option_logprobs(prompts, options)]

    def next_token(self, texts, *, choose=None):  # type: ignore[no-untyped-def]
        """Every position, whatever was chosen."""
        if choose is not None:
            for i in range(len(texts)):
                choose(i, np.array([[4, 9], [24, 30]]))
        return super().next_token(texts)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("facts", r"probe 'mine': 5 positions of text 0 were scored where 1 were chosen"),
        ("next_token", r"probe 'mine': 3 positions of text 0 were scored where 1 were chosen"),
        ("multiple_choice", r"probe 'mine': 1 of 2 options of '2 \+ 2\?' were scored"),
    ],
)
def test_a_model_that_scores_another_part_of_a_text_fails_the_probe(
    tmp_path: Path, kind: str, message: str
) -> None:
    """As many positions, and options, as were asked for: anything else would pair wrong numbers."""
    path = write(tmp_path / "rows.jsonl", ROWS[kind])
    more = {"positions": 1} if kind == "next_token" else {}
    with pytest.raises(ProbeError, match=message):
        PROBES[kind]("mine", path=path, **more).run(Partial())
