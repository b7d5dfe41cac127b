"""The classification probe: labels and classes, several labels, words, hypotheses, long texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import unit
from numpy.typing import NDArray

from pytest_calibration import Predictions, compare
from pytest_calibration.errors import (
    CalibrationError,
    ItemError,
    ModelError,
    ProbeError,
    UsageError,
)
from pytest_calibration.probes.classification import Classification
from pytest_calibration.probes.probe_set import from_settings

NAMES = ("sad", "glad", "so-so")
ROWS = [{"text": f"text {i}", "label": NAMES[i % 3], "slice": f"s{i % 2}"} for i in range(12)]


class FakeClassifier:
    """Its beliefs depend on the text and the name of a class, not on the order of its classes."""

    fingerprint = "1"

    def __init__(self, names: Sequence[str] = NAMES, *, multi_label: bool = False) -> None:
        self.name = "fake"
        self.class_names = tuple(names)
        self.multi_label = multi_label
        self.asked: list[Any] = []

    def belief(self, text: Any) -> list[float]:
        """A number in (0, 1) for each class."""
        return [unit(text, name) for name in self.class_names]

    def class_probabilities(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Of each class, or each by itself."""
        self.asked += texts
        table = np.array([self.belief(text) for text in texts])
        return table if self.multi_label else table / table.sum(axis=1, keepdims=True)

    def token_class_probabilities(
        self, texts: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Of the classes of each word."""
        return [FakeClassifier.class_probabilities(self, words) for words in texts]


class Truncating(FakeClassifier):
    """Reads six characters."""

    def truncated(self, texts: Sequence[Any]) -> NDArray[np.bool_]:
        """Which texts are longer."""
        return np.array([len(text) > 6 for text in texts])

    def class_probabilities(  # type: ignore[override]
        self, texts: Sequence[Any], *, truncate: str = ""
    ) -> NDArray[np.float64]:
        """Of what it reads."""
        assert truncate == "longest_first"
        return super().class_probabilities([text[:6] for text in texts])


class Inferring(FakeClassifier):
    """A model of natural language inference."""

    def class_logits(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Of pairs."""
        self.asked += texts
        return np.array([[4 * b for b in self.belief("|".join(text))] for text in texts])


def rows(folder: Path, content: Sequence[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    """Write rows."""
    path = folder / name
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


def probe(folder: Path, content: Sequence[dict[str, Any]] = ROWS, **settings: Any) -> Any:
    """A probe of these rows."""
    return Classification("mine", path=rows(folder, content), **settings)


def by_name(predictions: Predictions, text: str) -> dict[str, float]:
    """Return the probability of each class of a text, by name."""
    assert predictions.texts is not None
    assert predictions.probabilities is not None
    at = [predictions.texts[i].prompt for i in range(len(predictions))].index(text)
    return dict(zip(predictions.class_names, predictions.probabilities[at], strict=True))


# --- one label -----------------------------------------------------------------------------------


def test_the_answer_is_the_most_probable_class(tmp_path: Path) -> None:
    """Its probability is the confidence; the label's is kept, whatever the order of classes."""
    model = FakeClassifier()
    found = probe(tmp_path).run(model)
    table = model.class_probabilities([row["text"] for row in ROWS])
    gold = [NAMES.index(row["label"]) for row in ROWS]
    np.testing.assert_allclose(found.confidence, table.max(axis=1))
    np.testing.assert_array_equal(found.correct, table.argmax(axis=1) == gold)
    np.testing.assert_allclose(found.label_logprobs, np.log(table[np.arange(12), gold]))
    assert found.class_names == ("glad", "sad", "so-so")
    assert [found.class_names[i] for i in found.labels] == [row["label"] for row in ROWS]
    assert list(found.slices) == [row["slice"] for row in ROWS]
    assert found.signature.hard["classes"] == "glad, sad, so-so"


def test_a_pair_is_two_texts(tmp_path: Path) -> None:
    """The model is given both, in order; they are shown together."""
    model = FakeClassifier()
    found = probe(tmp_path, [{"text": "a", "text_pair": "b", "label": "sad"}]).run(model)
    assert model.asked == [("a", "b")]
    assert found.texts[0].prompt == "a\nb"


@pytest.mark.parametrize("label", [1, "1", "glad"])
def test_a_label_is_a_name_or_an_index(tmp_path: Path, label: Any) -> None:
    """An index, also as the text that a table has, is the model's own."""
    found = probe(tmp_path, [{"text": "a", "label": label}]).run(FakeClassifier())
    assert found.class_names[found.labels[0]] == "glad"
    assert found.texts[0].gold == "glad"


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        ("123", [1, 2, 3], "123"),  # the classes of an estimator, as numbers and as text
        ("123", ["1", "2", "3"], "123"),
        ("123", [1, 2, 2], "122"),
        ("123", [2.0, "3.0", 1], "231"),
        ("123", [0, 1, 2], "123"),  # indices, each of them
        ("123", ["0", "1", "1"], "122"),
        ("102", ["1", 0, 2], "102"),
        (("1.0", "2.0"), [1, 2, "2.0"], ("1.0", "2.0", "2.0")),
        (("-1", "1"), [-1, 1, 1], ("-1", "1", "1")),
    ],
)
def test_labels_are_names_or_indices_all_of_them(
    tmp_path: Path, names: Any, labels: list[Any], classes: Any
) -> None:
    """Also where classes are called by numbers: never one as a name and another as an index."""
    content = [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)]
    found = probe(tmp_path, content).run(FakeClassifier(names))
    assert [found.class_names[i] for i in found.labels] == list(classes)
    listed = probe(tmp_path, content, classes=list(names)).run(FakeClassifier(names))
    assert [listed.class_names[i] for i in listed.labels] == list(classes)


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    """One of them would be lost."""
    with pytest.raises(ProbeError, match=r"fake gives several classes one name, got \['a', 'a'"):
        probe(tmp_path, [{"text": "a", "label": 0}]).run(FakeClassifier(["a", "a", "b"]))


def test_models_that_order_their_classes_differently_agree(tmp_path: Path) -> None:
    """Named labels pair the same class with the same class: nothing changes."""
    one, other = (probe(tmp_path).run(FakeClassifier(names)) for names in (NAMES, NAMES[::-1]))
    np.testing.assert_allclose(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.item_ids, other.item_ids)
    assert one.signature == other.signature


def test_indices_of_models_that_order_their_classes_differently_are_not_compared(
    tmp_path: Path,
) -> None:
    """An index means another class there, so it is another question."""
    content = [{"text": f"t{i}", "label": i % 3} for i in range(90)]
    one, other = (
        probe(tmp_path, content).run(FakeClassifier(names)) for names in (NAMES, NAMES[::-1])
    )
    verdict = compare(other, one)
    assert verdict.state == "not_comparable"
    assert "so-so, glad, sad" in verdict.explain()


def test_classes_say_what_indices_mean(tmp_path: Path) -> None:
    """Then the order of the model does not matter, and names may be translated."""
    content = [{"text": f"t{i}", "label": i % 3} for i in range(9)]
    named = [{"text": f"t{i}", "label": NAMES[i % 3]} for i in range(9)]
    expected = probe(tmp_path, named).run(FakeClassifier())
    for classes in (list(NAMES), dict(enumerate(NAMES))):
        for names in (NAMES, NAMES[::-1]):
            found = probe(tmp_path, content, classes=classes).run(FakeClassifier(names))
            np.testing.assert_allclose(found.probabilities, expected.probabilities)
            np.testing.assert_array_equal(found.correct, expected.correct)
            assert found.signature == expected.signature
    german = {"traurig": "sad", "froh": "glad"}
    found = probe(tmp_path, [{"text": "a", "label": "froh"}], classes=german).run(FakeClassifier())
    assert found.texts[0].gold == "glad"


def test_a_model_without_names_takes_indices(tmp_path: Path) -> None:
    """A plain function has columns alone."""
    model = FakeClassifier()
    del model.class_names
    model.belief = lambda _: [0.2, 0.7, 0.1]  # type: ignore[method-assign]
    content = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    found = probe(tmp_path, content).run(model)
    assert found.correct.tolist() == [True, False]
    assert found.class_names == ()
    with pytest.raises(ProbeError, match="'sad' is no index, and fake names no classes; give"):
        probe(tmp_path, ROWS[:1]).run(model)


def test_a_table_and_a_public_data_set_are_read_the_same_way(tmp_path: Path) -> None:
    """CSV gives what JSON Lines give."""
    table = tmp_path / "rows.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label", "slice"])
        writer.writeheader()
        writer.writerows(ROWS)
    one, other = (Classification("mine", path=p).run(FakeClassifier()) for p in (
        table, rows(tmp_path, ROWS)
    ))  # fmt: skip
    np.testing.assert_array_equal(one.item_ids, other.item_ids)
    np.testing.assert_array_equal(one.confidence, other.confidence)


def test_an_entry_of_calibration_yaml(tmp_path: Path) -> None:
    """Every setting can be written there."""
    rows(tmp_path, [{"text": "a", "label": 0}])
    entry = {"kind": "classification", "path": "rows.jsonl", "classes": {0: "x", 1: "y"},
             "hypothesis": "It is {}.", "truncate": True}  # fmt: skip
    made: Any = from_settings("mine", entry, tmp_path, "here")
    assert (made.hypothesis, made.truncate, made.translation(0)) == ("It is {}.", True, "x")


# --- several labels ------------------------------------------------------------------------------

SEVERAL = [{"text": f"t{i}", "label": [n for n in NAMES if unit(i, n) < 0.5]} for i in range(8)]


def test_each_class_of_a_text_is_an_item(tmp_path: Path) -> None:
    """The answer is whether the text has it; the text is the group, the class the slice."""
    model = FakeClassifier(multi_label=True)
    found = probe(tmp_path, SEVERAL).run(model)
    assert len(found) == 24
    p = model.class_probabilities([row["text"] for row in SEVERAL])
    gold = np.array([[name in row["label"] for name in NAMES] for row in SEVERAL])
    order = [1, 0, 2]
    p, gold = p[:, order].ravel(), gold[:, order].ravel()
    np.testing.assert_allclose(found.confidence, np.maximum(p, 1 - p))
    np.testing.assert_array_equal(found.correct, (p >= 0.5) == gold)
    np.testing.assert_allclose(found.label_logprobs, np.log(np.where(gold, p, 1 - p)))
    assert found.n_clusters == 8
    assert list(found.slices[:3]) == ["glad", "sad", "so-so"]
    assert found.class_names == ("no", "yes")
    assert found.texts[4].prompt == "t1 [sad]"


def test_a_limit_takes_the_items_of_the_smallest_ids(tmp_path: Path) -> None:
    """As of every probe, also where a text has several items; nothing else is asked."""
    words = [{"tokens": ["a", f"b{i}", "c"], "labels": [0, -100, 1]} for i in range(9)]
    for content, several in ((SEVERAL, True), (words, False), (ROWS, False)):
        whole = probe(tmp_path, content).run(FakeClassifier(multi_label=several))
        model = FakeClassifier(multi_label=several)
        part = probe(tmp_path, content).run(model, limit=5)
        expected = whole.limited(5)
        np.testing.assert_array_equal(part.item_ids, expected.item_ids)
        np.testing.assert_array_equal(part.confidence, expected.confidence)
        np.testing.assert_array_equal(part.correct, expected.correct)
        assert list(part.groups if part.groups is not None else []) == list(
            expected.groups if expected.groups is not None else []
        )
        assert len(model.asked) < len(whole)


@pytest.mark.parametrize("several", [True, False])
def test_labels_and_model_are_of_one_kind(tmp_path: Path, several: bool) -> None:
    """Probabilities that do not sum to 1 are no choice among classes, nor the other way round."""
    content = [{"text": "a", "label": "sad" if several else ["sad"]}]
    kind = "single" if several else "multi"
    with pytest.raises(
        ModelError,
        match=rf"rows of probe 'mine' have .*: {kind}_lab.*multi_label = {not several} on",
    ):
        probe(tmp_path, content).run(FakeClassifier(multi_label=several))


# --- words ---------------------------------------------------------------------------------------


def test_each_judged_word_is_an_item(tmp_path: Path) -> None:
    """Masked words are none; the row is the group, and a word keeps its id when others change."""
    content = [
        {"tokens": ["The", "moon", "melts"], "labels": ["sad", -100, "glad"], "id": "1"},
        {"tokens": ["Oslo"], "labels": [None]},
        {"tokens": ["ice", "melts"], "labels": [0, 2]},
    ]
    model = FakeClassifier()
    found = probe(tmp_path, content).run(model)
    assert [found.texts[i].prompt for i in range(4)] == [
        *("The moon melts [The]", "The moon melts [melts]"),
        *("ice melts [ice]", "ice melts [melts]"),
    ]
    table = model.class_probabilities(["The", "melts", "ice", "melts"])
    np.testing.assert_allclose(found.confidence, table.max(axis=1))
    np.testing.assert_array_equal(found.correct, table.argmax(axis=1) == [0, 1, 0, 2])
    assert (found.n_clusters, found.unit) == (2, "token")


# --- hypotheses ----------------------------------------------------------------------------------


def test_the_class_whose_hypothesis_is_entailed_most(tmp_path: Path) -> None:
    """A soft-max over the logits of entailment, for the classes of the rows or those named."""
    model = Inferring(("contradiction", "neutral", "ENTAILMENT"))
    content = [{"text": "a", "label": "sports"}, {"text": "b", "label": "politics"}]
    found = probe(tmp_path, content, hypothesis="It is {}.").run(model)
    assert model.asked[:2] == [("a", "It is politics."), ("a", "It is sports.")]
    logits = model.class_logits(model.asked[:4])[:, 2].reshape(2, 2)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected)
    assert found.signature.hard["hypothesis"] == "'It is {}.'"
    indexed = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    again = probe(
        tmp_path, indexed, hypothesis="It is {}.", classes=["politics", "sports"]
    ).run(model)  # fmt: skip
    np.testing.assert_allclose(again.probabilities, expected)
    np.testing.assert_array_equal(again.correct, found.correct)


def test_several_labels_by_hypothesis(tmp_path: Path) -> None:
    """Entailment against contradiction, each class by itself."""
    content = [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["x", "y"]}]
    model = Inferring(("contradiction", "neutral", "entailment"))
    found = probe(tmp_path, content, hypothesis="It is {}.").run(model)
    logits = model.class_logits(model.asked[:4])[:, [0, 2]]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected)
    model.class_logits = lambda pairs: np.array([[2000.0, 0, 0]] * len(pairs))  # type: ignore[method-assign]
    sure = probe(tmp_path, content, hypothesis="It is {}.").run(model)
    assert sure.confidence.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES, r"none of its classes \(sad, glad, so-so\) begins with 'entail'; .*id2label: \{0"),
        (("entailment", "entailed"), r"2 of its classes .* begins with 'entail'"),
    ],
)
def test_entailment_that_cannot_be_found_is_named(
    tmp_path: Path, names: Sequence[str], message: str
) -> None:
    """No class is guessed."""
    with pytest.raises(ModelError, match=message):
        probe(tmp_path, ROWS, hypothesis="It is {}.").run(Inferring(names))


# --- long texts ----------------------------------------------------------------------------------


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    """The note says how many, and a baseline of whole texts is another."""
    content = [{"text": t, "label": "sad"} for t in ("short", "much longer", "longest of all")]
    found = probe(tmp_path, content, truncate=True).run(Truncating())
    assert found.notes == ("longer than what the model reads, and cut: 2 of 3 texts.",)
    assert found.signature.hard["long texts"] == "cut"
    np.testing.assert_allclose(
        found.confidence, FakeClassifier().class_probabilities(["short", "much l", "longes"]).max(1)
    )
    assert probe(tmp_path, content[:1], truncate=True).run(Truncating()).notes == ()


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "the key 'label' is missing"),
        ({"label": "a"}, "the key 'text' is missing"),
        ({"text": " ", "label": "a"}, "'text' must not be empty"),
        ({"text": "a", "label": True}, "the name of a class or its index, got True"),
        ({"text": "a", "label": None}, "the name of a class or its index, got None"),
        ({"text": "a", "label": 1.5}, "the name of a class or its index, got 1.5"),
        ({"text": "a", "label": ["x", "x"]}, r"'label' names a class twice, got \['x', 'x'\]"),
        ({"text": "a", "label": "x", "text_pair": ""}, "'text_pair' must not be empty"),
        ({"text": "a", "labels": ["x"]}, "'labels' goes with 'tokens'; beside 'text' write 'labe"),
        ({"tokens": ["a"]}, "the key 'labels' is missing"),
        ({"labels": ["a"]}, "the key 'tokens' is missing"),
        ({"tokens": [], "labels": []}, "'tokens' must not be empty"),
        ({"tokens": ["a", ""], "labels": [0, 0]}, "'tokens' must be a list of words"),
        ({"tokens": ["a", "b"], "labels": [0]}, "has 1 entries for 2 tokens; give one per token"),
        ({"tokens": ["a"], "labels": [[0]]}, r"its index, got \[0\]"),
        ({"tokens": ["a"], "labels": "O"}, "'labels' must be a list, got 'O'"),
        ({"text": "a\ud83d", "label": 0}, "half a surrogate pair"),
        ({"text": "a", "lable": 0}, "unknown key 'lable'; known keys: text"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    """File, line, key and value."""
    with pytest.raises(ItemError, match=rf"rows.jsonl, line 2: .*{message}"):
        probe(tmp_path, [ROWS[0], row])


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (ROWS, {"hypothesis": "It is."}, r"the hypothesis must have \{\} once, .*, got 'It is.'"),
        (ROWS, {"classes": "sad"}, "classes must be a list of the names .*, got 'sad'"),
        (ROWS, {"classes": []}, r"classes must be a list .*, got \[\]"),
        (ROWS, {"classes": ["a", "a"]}, "classes names one twice"),
        ([{"tokens": ["a"], "labels": [0]}], {"truncate": True}, "truncate is for texts with a l"),
        ([{"tokens": ["a"], "labels": [0]}], {"hypothesis": "{}"}, "hypothesis is for texts with"),
    ],
)
def test_a_setting_without_sense_is_refused(
    tmp_path: Path, content: Any, settings: dict[str, Any], message: str
) -> None:
    """With the value, and what would do."""
    with pytest.raises(UsageError, match=f"probe 'mine': .*{message}"):
        probe(tmp_path, content, **settings)


def test_there_are_no_built_in_texts() -> None:
    """Their classes would be nobody's."""
    with pytest.raises(UsageError, match="there are no built-in items of kind classification"):
        Classification()


def test_rows_of_several_shapes_are_refused(tmp_path: Path) -> None:
    """One label or a list: the probe is one or the other."""
    with pytest.raises(ProbeError, match="'text 0' has one label, and that of 'b' a list of labe"):
        probe(tmp_path, [ROWS[0], {"text": "b", "label": ["sad"]}])
    with pytest.raises(ProbeError, match="no word has a label"):
        probe(tmp_path, [{"tokens": ["a"], "labels": [-100]}]).run(FakeClassifier())


@pytest.mark.parametrize(
    ("label", "settings", "message"),
    [
        ("gald", {}, r"'gald' is none of fake, whose classes are .* \(did you mean 'glad'\?\); wr"),
        (3, {}, "the label 3 is none of fake"),
        (-100, {}, "the label -100 is none of fake"),
        ("7", {}, "the label '7' is none of fake"),
        ("x", {"classes": {"y": "sad"}}, "the label 'x' is none of its classes; add it to classes"),
        (0, {"classes": ["angry", "sad"]}, "the label 'angry' is none of fake"),
        ("sad", {"hypothesis": "It is {}."}, r"two classes or more to choose from, got \['sad'\]"),
    ],
)
def test_a_label_that_the_model_does_not_know_is_named(
    tmp_path: Path, label: Any, settings: dict[str, Any], message: str
) -> None:
    """Before anything is asked."""
    model = FakeClassifier()
    with pytest.raises(ProbeError, match=message):
        probe(tmp_path, [{"text": "a", "label": label}], **settings).run(model)
    assert model.asked == []


def test_a_reward_model_is_asked_for_no_label(tmp_path: Path) -> None:
    """Its one output is no class, and the error says which kind asks it."""
    rows = [{"text": "a", "label": "glad"}]
    with pytest.raises(ProbeError, match=r"is a reward model, as a rule: kind: preference asks it"):
        probe(tmp_path, rows).run(FakeClassifier(["LABEL_0"]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[2.0, 1.0, -3.0]], "row 0 of the class probabilities sums to 0, not 1; a classifier gi"),
        ([[0.5, 0.5]], r"gives probabilities of shape \(1, 2\) for 1 texts and 3 classes"),
        ([0.5, 0.3, 0.2], r"gives probabilities of shape \(3,\) for 1 texts and 3 classes"),
        ([[0.5, 0.3, np.nan]], "row 0 of the class probabilities sums to nan"),
    ],
)
def test_what_are_no_probabilities_is_refused(tmp_path: Path, table: Any, message: str) -> None:
    """Of a model of one's own."""
    model = FakeClassifier()
    model.class_probabilities = lambda _: np.array(table)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=f"fake: {message}"):
        probe(tmp_path, ROWS[:1]).run(model)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "class_probabilities must return numbers, got None"),
        ("glad", "class_probabilities must return numbers, got 'glad'"),
        ([["a", "b", "c"]], "class_probabilities must return numbers"),
        ([[0.5, None, 0.5]], r"what class_probabilities returned\[0, 1\] is missing"),
        ([[0.5], [0.5, 0.5]], "what class_probabilities returned cannot be read as an array"),
    ],
)
def test_an_answer_without_numbers_is_named(tmp_path: Path, answer: Any, message: str) -> None:
    """By the method that gave it."""
    model = FakeClassifier()
    model.class_probabilities = lambda _: answer  # type: ignore[method-assign]
    with pytest.raises(CalibrationError, match=f"fake: {message}"):
        probe(tmp_path, ROWS[:1]).run(model)


def test_answers_are_read_in_whatever_type_they_come(tmp_path: Path) -> None:
    """Lists and generators of rows, of texts and of words."""
    model, row = FakeClassifier(), [0.2, 0.7, 0.1]
    model.class_probabilities = lambda texts: (row for _ in texts)  # type: ignore
    model.token_class_probabilities = lambda texts: ([row] * len(t) for t in texts)  # type: ignore
    words = [{"tokens": ["a", "b"], "labels": ["sad", "glad"]}, {"tokens": ["c"], "labels": [0]}]
    assert probe(tmp_path, ROWS).run(model).confidence.tolist() == [0.7] * 12
    assert probe(tmp_path, words).run(model).correct.tolist() == [False, True, False]


@pytest.mark.parametrize("several", [False, True])
def test_a_label_has_one_id_however_a_table_writes_it(tmp_path: Path, several: bool) -> None:
    """1, "1", 1.0 and "1.0" are one: a column with a gap is saved as 1.0."""
    ids = []
    for i, label in enumerate((1, "1", 1.0, "1.0")):
        path = tmp_path / f"{i}.jsonl"
        path.write_text(json.dumps({"text": "a", "label": [label] if several else label}))
        ids.append(Classification("c", path=path).ids().tolist())
    assert len(set(map(tuple, ids))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "text,label\na,0\nb,1\n"),
        ("rows.csv", "text,label\na,0.0\nb,1.0\n"),
        ("rows.jsonl", '{"text":"a","label":0}\n{"text":"b","label":1}\n'),
    ],
)
def test_a_hypothesis_never_asks_for_the_number_of_a_class(
    tmp_path: Path, name: str, text: str
) -> None:
    """An index names nothing, in a table of text or not; ``classes`` say what it stands for."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ProbeError, match=r"needs two classes or more.*name them: classes"):
        Classification("c", path=path, hypothesis="It is {}.").run(FakeClassifier())
