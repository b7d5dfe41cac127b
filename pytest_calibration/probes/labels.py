"""Texts with their right classes: rows of a file, and which column of a model a label means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ProbeError, UsageError, suggestion
from pytest_calibration.items.jsonl import Row, optional_texts, text_of, whole_text
from pytest_calibration.models.protocols import Text
from pytest_calibration.predictions import digest
from pytest_calibration.probes.probe import Item
from pytest_calibration.text.visible import quoted

Label: TypeAlias = str | int
"""A class as a row names it: its name, or its index."""
Shape: TypeAlias = Literal["one", "several", "words"]
"""What is right of a text: one class, any number of classes, or one class per word."""
ClassSetting: TypeAlias = Sequence[str] | Mapping[Label, str] | None

KEYS: Final = ("text", "text_pair", "label", "tokens", "labels", "id", "group", "slice")
MASKED: Final = -100
"""The label of a word that is not judged, as transformers writes it."""
# Characters of all class names together that a signature shows.
MOST_NAMES: Final = 200


@dataclass(frozen=True)
class Labelled(Item):
    """A text with what is right of it.

    Attributes:
        text: the text; of a text in words, these joined by spaces.
        labels: its class; its classes; or the class of each word, None where it is not judged.
        shape: which of these.
        pair: the second text of a pair.
        words: the words.
    """

    text: str
    labels: tuple[Label | None, ...]
    shape: Shape
    pair: str | None = None
    words: tuple[str, ...] = ()

    @property
    def asked(self) -> Text:
        """What a classifier of texts is given."""
        return self.text if self.pair is None else (self.text, self.pair)

    @property
    def shown(self) -> str:
        """The text, for a reader."""
        return self.text if self.pair is None else f"{self.text}\n{self.pair}"


def labelled_item(row: Row) -> Labelled:
    """Read one row ``{"text", "label"}`` or ``{"tokens", "labels"}``."""
    more = optional_texts(row, "id", "group", "slice")
    if "tokens" in row or ("labels" in row and "text" not in row):
        return _words(row, more)
    if "labels" in row:
        raise ValueError(
            "'labels' goes with 'tokens'; beside 'text' write 'label', a list where a text has any "
            "number of classes"
        )
    text = text_of(row, "text")
    pair = text_of(row, "text_pair") if "text_pair" in row else None
    if "label" not in row:
        raise ValueError("the key 'label' is missing")
    label = row["label"]
    several = isinstance(label, list)
    labels = tuple(_label(one) for one in (label if several else [label]))
    if len(set(labels)) < len(labels):
        raise ValueError(f"'label' names a class twice, got {quoted(label)}")
    return Labelled(text, labels, "several" if several else "one", pair, (), **more)


def _words(row: Row, more: Mapping[str, str | None]) -> Labelled:
    for key in ("tokens", "labels"):
        if key not in row:
            raise ValueError(f"the key {key!r} is missing")
    tokens, labels = row["tokens"], row["labels"]
    if not isinstance(tokens, list) or not all(isinstance(t, str) and t.strip() for t in tokens):
        raise ValueError(f"'tokens' must be a list of words, got {quoted(tokens)}")
    if not tokens:
        raise ValueError("'tokens' must not be empty")
    if not isinstance(labels, list):
        raise ValueError(f"'labels' must be a list, got {quoted(labels)}")
    if len(labels) != len(tokens):
        raise ValueError(
            f"'labels' has {len(labels)} entries for {len(tokens)} tokens; give one per token, "
            f"{MASKED} where a token is not judged"
        )
    for token in tokens:
        whole_text(token, "tokens")
    read = tuple(None if one in (None, MASKED) else _label(one) for one in labels)
    return Labelled(" ".join(tokens), read, "words", None, tuple(tokens), **more)


def _label(value: object) -> Label:
    if isinstance(value, str) and value.strip():
        return whole_text(value, "label")
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise ValueError(f"a label must be the name of a class or its index, got {quoted(value)}")


def shape_of(probe: str, items: Sequence[Labelled]) -> Shape:
    """Return the shape that all items have.

    Raises:
        ProbeError: they have several.
    """
    first = items[0]
    other = next((item for item in items if item.shape != first.shape), None)
    if other is not None:
        words = {"one": "one label", "several": "a list of labels", "words": "tokens and labels"}
        raise ProbeError(
            f"probe {probe!r}: the row of {quoted(first.text[:40])} has {words[first.shape]}, and "
            f"that of {quoted(other.text[:40])} {words[other.shape]}; write all rows the same way."
        )
    return first.shape


def _are_names(labels: Sequence[Label], names: Sequence[str]) -> bool:
    """Whether labels name classes, as all of them then do; else they are indices.

    One rule for all: where classes are called 1 to 5, the labels 0 to 4 are indices, each of them.
    """
    known = set(map(label_text, names))
    return all(label_text(label) in known for label in labels)


def label_text(label: Label) -> str:
    """Return the text of a label or name: 1, "1" and "1.0" are one, as tables write them."""
    text = str(label)
    whole = text.removesuffix(".0")
    return whole if whole.removeprefix("-").isdecimal() else text


class Translation:
    """What the labels of rows are called by the model.

    Args:
        probe: name of the probe.
        classes: the names that the indices of rows stand for, in order; or the model's name of each
            label of rows.
        labels: all labels of the rows.

    Raises:
        UsageError: classes that are neither.
    """

    def __init__(self, probe: str, classes: ClassSetting, labels: Sequence[Label] = ()) -> None:
        self.probe = probe
        if classes is not None and isinstance(classes, str | bytes):
            raise self._unusable(classes)
        names = list(classes.values() if isinstance(classes, Mapping) else classes or ())
        if classes is not None and not (names and all(isinstance(n, str) and n for n in names)):
            raise self._unusable(classes)
        if len(set(names)) < len(names):
            raise UsageError(f"probe {probe!r}: classes names one twice, got {quoted(names)}.")
        self.names: tuple[str, ...] = tuple(names)
        # By its text: rows of a table have texts alone.
        self._named: dict[str, str] = {}
        if isinstance(classes, Mapping):
            self._named = {label_text(key): name for key, name in classes.items()}
        else:
            as_names = _are_names(labels, names)
            if not as_names:
                self._named = {str(i): name for i, name in enumerate(names)}
            self._named |= {
                label_text(name): name
                for name in names
                if as_names or not label_text(name).isdecimal()
            }

    def _unusable(self, classes: object) -> UsageError:
        return UsageError(
            f"probe {self.probe!r}: classes must be a list of the names that the indices of rows "
            "stand for, or a mapping of the labels of rows to names of classes, got "
            f"{quoted(classes)}."
        )

    def __call__(self, label: Label) -> Label:
        """Return what the model calls a label.

        Raises:
            ProbeError: the classes do not have it.
        """
        if not self._named:
            return label
        if label_text(label) not in self._named:
            known = ", ".join(map(repr, self._named))
            raise ProbeError(
                f"probe {self.probe!r}: the label {quoted(label)} is none of its classes; add it "
                f"to classes, which has {known[:200]}."
            )
        return self._named[label_text(label)]


class Columns:
    """Which column of a model's probabilities is which class.

    Columns are taken in the order of their names, whatever order the model has them in, so that two
    models whose ``id2label`` differ in their order agree on every class. Where rows have indices,
    they mean the model's own order, which is kept, and is part of the signature.

    Args:
        probe: name of the probe.
        model: name of the model.
        names: its classes, in the order of its columns; none where they have no names.
        labels: all labels of the rows, as the model calls them.

    Attributes:
        names: the classes in the order that is used.
        order: (k,) the model's columns in that order; None for as they are.

    Raises:
        ProbeError: two classes have one name.
    """

    def __init__(
        self, probe: str, model: str, names: Sequence[str], labels: Sequence[Label]
    ) -> None:
        self._where = f"probe {probe!r}"
        self._model = model
        self.by_index = not _are_names(labels, names)
        self.names = tuple(names) if self.by_index else tuple(sorted(names))
        at = {name: i for i, name in enumerate(names)}
        self.order: NDArray[np.int64] | None = None
        if names and not self.by_index:
            self.order = np.array([at[name] for name in self.names], dtype=np.int64)
        self._at = {label_text(name): i for i, name in enumerate(self.names)}
        if len(self._at) < len(names):
            raise ProbeError(
                f"{self._where}: {model} gives several classes one name, got {quoted(list(names))}."
            )

    def of(self, label: Label) -> int:
        """Return the column of a label: a name of a class, else its index.

        Raises:
            ProbeError: it is neither.
        """
        text = label_text(label)
        if text in self._at and not (self.by_index and text.isdecimal()):
            return self._at[text]
        index = int(text) if text.isdecimal() else -1
        if index < 0 and not self.names:
            raise ProbeError(
                f"{self._where}: the label {quoted(label)} is no index, and {self._model} names no "
                "classes; give it their names in the order of its columns (class_names = ['no', "
                "'yes'], an attribute of a function or object), or write indices as labels."
            )
        if index < 0 or (self.names and index >= len(self.names)):
            hint = suggestion(text, self.names) if isinstance(label, str) else ""
            shown = ", ".join(self.names)
            what = "label"
            if text in self._at:
                # Another label is no name.
                what, hint = "index", ""
            pairs = "; a model of one output is a reward model, as a rule: kind: preference asks it"
            raise ProbeError(
                f"{self._where}: the {what} {quoted(label)} is none of {self._model}, whose "
                f"classes are {shown[:MOST_NAMES]}{hint}; write names of its classes or their "
                "indices, or map the labels: classes: {label: class}"
                f"{pairs * (len(self.names) == 1)}."
            )
        return index

    def described(self) -> str:
        """Return the classes, for the signature."""
        text = ", ".join(self.names) or "by index"
        if len(text) <= MOST_NAMES:
            return text
        return f"{len(self.names):,} ({digest(*self.names, size=4)})"
