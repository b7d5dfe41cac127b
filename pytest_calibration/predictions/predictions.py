"""Predictions: for each item the confidence of a model in its own answer, and whether it is right.

Every probe reduces to that pair per item, and every metric reads it. Arrays are validated here,
once: what exists as ``Predictions`` is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import PredictionsError
from pytest_calibration.predictions import arrays
from pytest_calibration.predictions.arrays import BoolArray, FloatArray, IdArray, IntArray, StrArray
from pytest_calibration.predictions.columns import Table, read_columns
from pytest_calibration.predictions.conversion import as_array, as_list
from pytest_calibration.predictions.frames import table_of
from pytest_calibration.predictions.ids import digest, hash_ids, positional_ids
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.predictions.signature import Signature
from pytest_calibration.predictions.trainer_output import answers_of, parts_of

Unit: TypeAlias = Literal["item", "token"]

# How each optional array is checked: (values, name, where) to an array of n rows.
_OPTIONAL: Final[dict[str, Callable[[Any, str, str], NDArray[Any]]]] = {
    "probabilities": partial(arrays.probabilities, ndim=2),
    "labels": arrays.whole_numbers,
    "label_logprobs": arrays.log_probabilities,
    "option_mass": arrays.floats,
    "groups": arrays.group_names,
    "slices": arrays.texts,
}
_ARRAYS: Final = ("confidence", "correct", "item_ids", *_OPTIONAL)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outcome of one probe on one model.

    Attributes:
        probe: name of the probe; the key under which a baseline is stored.
        confidence: (n,) float64 in [0, 1], the probability the model gives to its own answer.
        correct: (n,) bool, whether that answer is right.
        item_ids: (n,) uint64, distinct; they pair an item with itself in another run.
        probabilities: (n, k) float64, rows summing to 1; where the probe has options or classes.
        labels: (n,) int64, index of the right option or class.
        label_logprobs: (n,) float64, log P(right answer) in nats, from which NLL is computed.
        option_mass: (n,) float64, total probability of all options before renormalisation.
        groups: (n,) text; items of one group depend on each other (tokens of one document,
            questions on one passage), so standard errors are computed over groups. An item given
            without a group (missing, or an empty text) is alone in a group of its own.
        slices: (n,) text; the subject or relation of an item, empty where it is missing. For tables
            only: it changes no standard error.
        texts: prompt and answer of each item, for reports; never compared, never stored in a
            baseline.
        unit: what one item is; token-level probes keep a sample in their baseline.
        signature: the settings that produced these numbers.
        notes: sentences of the probe that a reader of these numbers must see.
        source: what made them, where the model alone does not tell: the test, in a test session.
            For reports and dumps; never compared, never stored in a baseline.
        class_names: (k,) names of the classes, for reports; empty where they are not known.
        asked_of: number of items of the whole, where only the first of them were asked because the
            comparison was decided by then; else 0. A part is never stored for the whole.

    Raises:
        PredictionsError: no items, NaN or infinity, a value outside [0, 1], lengths that differ,
            or an item id that occurs twice. The message names the first bad index.
    """

    probe: str
    confidence: FloatArray
    correct: BoolArray
    item_ids: IdArray
    probabilities: FloatArray | None = None
    labels: IntArray | None = None
    label_logprobs: FloatArray | None = None
    option_mass: FloatArray | None = None
    groups: StrArray | None = None
    slices: StrArray | None = None
    texts: ItemTexts | None = field(default=None, repr=False)
    unit: Unit = "item"
    signature: Signature = field(default_factory=Signature)
    notes: tuple[str, ...] = ()
    source: str = field(default="", repr=False)
    class_names: tuple[str, ...] = ()
    asked_of: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.probe, str) or not self.probe.isprintable() or not self.probe:
            raise PredictionsError(f"a probe needs a printable name, got {self.probe!r}.")
        object.__setattr__(self, "probe", str(self.probe))
        where = _where(self.probe)
        confidence = arrays.probabilities(self.confidence, "confidence", where)
        n = len(confidence)
        if n == 0:
            raise PredictionsError(f"{where}: there are no items (n = 0); score at least one.")
        self._set("confidence", confidence)
        self._set("correct", arrays.outcomes(self.correct, "correct", where))
        self._set("item_ids", arrays.ids(self.item_ids, "item_ids", where))
        for name, check in _OPTIONAL.items():
            if getattr(self, name) is not None:
                self._set(name, check(getattr(self, name), name, where))
        for name in (*_ARRAYS, "texts"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise PredictionsError(
                    f"{where}: {name} has {len(column)} entries for {n} confidences; "
                    "give one entry per item."
                )
        self._check_ids(where)
        self._check_class_names(where)

    def _set(self, name: str, array: NDArray[Any]) -> None:
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_ids(self, where: str) -> None:
        ordered = np.sort(self.item_ids)
        again = ordered[1:] == ordered[:-1]
        if again.any():
            twice = ordered[1:][again][0]
            first, second = np.flatnonzero(self.item_ids == twice)[:2]
            raise PredictionsError(
                f"{where}: items {first} and {second} have the same id; give each item its own id, "
                "or none at all."
            )

    def _check_class_names(self, where: str) -> None:
        table, names = self.probabilities, tuple(map(str, self.class_names))
        if names and table is not None and len(names) != table.shape[1]:
            raise PredictionsError(
                f"{where}: class_names has {len(names)} entries for {table.shape[1]} columns of "
                "probabilities; give one name per class."
            )
        # Without a table there are no classes.
        object.__setattr__(self, "class_names", () if table is None else names)

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.confidence)

    @property
    def whole(self) -> Predictions:
        """All of them; see ``PredictionsInParts``, of which a part may be asked."""
        return self

    def check_whole(self, what: str) -> None:
        """Raise PredictionsError for a part, which is not to be stored for the whole.

        Args:
            what: what is done with the whole: ``a baseline holds``.
        """
        if self.asked_of:
            raise PredictionsError(
                f"{_where(self.probe)}: {what} all items, and {self.n:,} of {self.asked_of:,} were "
                "asked before the comparison stopped early; run without --calibration-early-stop."
            )

    @property
    def gap(self) -> FloatArray:
        """(n,) confidence minus correctness; its mean is the signed gap."""
        return np.asarray(self.confidence - self.correct, dtype=np.float64)

    @property
    def n_clusters(self) -> int:
        """Number of independent units: groups where there are any, else items."""
        return self.n if self.groups is None else len(set(self.groups.tolist()))

    @property
    def classes(self) -> tuple[str, ...]:
        """What reports call each class: its name, else its number.

        Empty without a table, and where its columns are the options of questions, which mean
        something else in every item.
        """
        if self.class_names or self.probabilities is None:
            return self.class_names
        asked = self.option_mass is not None or self.signature.hard.get("kind") == "multiple_choice"
        if asked or (self.texts is not None and self.texts[0].options):
            return ()
        return tuple(f"class {i}" for i in range(self.probabilities.shape[1]))

    @property
    def items_digest(self) -> str:
        """Digest of the set of item ids; their order does not matter."""
        return digest(np.sort(self.item_ids).tobytes(), size=6)

    def take(self, index: NDArray[Any]) -> Predictions:
        """Return the items at these positions (or where this mask holds), in that order."""
        rows: dict[str, Any] = {
            name: column[index] for name in _ARRAYS if (column := getattr(self, name)) is not None
        }
        if self.texts is not None:
            rows["texts"] = self.texts.take(index)
        return replace(self, **rows)

    def limited(self, limit: int | None) -> Predictions:
        """Return the ``limit`` items with the smallest ids: a smaller limit gives a subset.

        Raises:
            PredictionsError: a limit below 1.
        """
        if limit is not None and limit < 1:
            raise PredictionsError(
                f"{_where(self.probe)}: the limit must be at least 1, got {limit}."
            )
        if limit is None or limit >= self.n:
            return self
        return self.take(np.sort(np.argsort(self.item_ids, kind="stable")[:limit]))

    def with_signature(self, **soft: str) -> Predictions:
        """Return the same predictions with these soft fields added to the signature."""
        joined = replace(self.signature, soft={**self.signature.soft, **soft})
        return replace(self, signature=joined)

    @classmethod
    def from_confidence(
        cls,
        confidence: Any,
        correct: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "confidence",
        model: str | None = None,
        signature: Signature | None = None,
    ) -> Predictions:
        """Build predictions from the confidence in each answer, and whether it is right.

        ``confidence`` is (n,) in [0, 1]; ``correct`` is (n,) booleans, or numbers that are 0 or 1.
        The other arguments are those of :meth:`from_probabilities`; without ``item_ids`` items
        pair by position.

        Raises:
            PredictionsError: as for the class.
        """
        where = _where(probe)
        confidence = arrays.floats(confidence, "confidence", where)
        return cls(
            probe=probe,
            confidence=confidence,
            correct=arrays.outcomes(correct, "correct", where),
            signature=_of_model(signature, model, where),
            **_columns(len(confidence), probe, item_ids, groups, slices, texts),
        )

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Any,
        labels: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "probabilities",
        model: str | None = None,
        signature: Signature | None = None,
        class_names: Sequence[object] | Mapping[Any, object] | None = None,
    ) -> Predictions:
        """Build predictions from class probabilities, as ``predict_proba`` gives them.

        The answer is the most probable class (the first of equals), its probability the confidence.

        Args:
            probabilities: (n, k) in [0, 1], each row summing to 1 (within 0.01: values are often
                stored rounded).
            labels: (n,) the right class of each row: its name, or the index of its column. Where
                classes are no texts (``classes_`` of [1, 2, 3]), labels are classes.
            item_ids: (n,) distinct ids: text, numbers, or tuples of these, equal whatever type they
                come in (3, 3.0, "3" and a tensor of 3 are one id); without them items pair by
                position, and a digest of the labels goes into the signature, so that a shuffled set
                is not comparable.
            groups: (n,) group of each item; items of one group depend on each other, and an item
                without one (None, NaN, NA or empty) depends on no other.
            slices: (n,) subject of each item, for tables.
            texts: (n,) prompt of each item, for reports.
            probe: name under which a baseline is stored.
            model: name of the model, for reports and dumps: it tells two checkpoints apart.
            signature: settings that produced the numbers.
            class_names: (k,) the classes in the order of the columns: ``classes_`` of scikit-learn,
                ``config.id2label``; by default the columns of a table that names them.

        Raises:
            PredictionsError: not an (n, k) table of probabilities, rows that do not sum to 1, or
                labels that name no class or column, or are booleans where there are more than two.
        """
        classes = _classes(probabilities, class_names)
        table, label = arrays.probability_table(probabilities, labels, _where(probe), classes)
        n = len(table)
        signature = _of_model(signature, model, _where(probe))
        if item_ids is None:
            hard = {**signature.hard, "labels": digest(label.tobytes(), size=6)}
            signature = Signature(hard, signature.soft)
        answer = table.argmax(axis=1)
        of_label = table[np.arange(n), label]
        return cls(
            probe=probe,
            confidence=table[np.arange(n), answer],
            correct=answer == label,
            probabilities=table,
            labels=label,
            label_logprobs=np.log(np.maximum(of_label, np.finfo(np.float64).tiny)),
            signature=signature,
            class_names=_class_names(classes, class_names, table.shape[1]),
            **_columns(n, probe, item_ids, groups, slices, texts),
        )

    @classmethod
    def from_logits(
        cls,
        logits: Any,
        labels: Any,
        *,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "probabilities",
        model: str | None = None,
        signature: Signature | None = None,
        class_names: Sequence[object] | Mapping[Any, object] | None = None,
    ) -> Predictions:
        """Build predictions from (n, k) logits: softmax of each row, then as probabilities.

        A logit of minus infinity is an option that an item does not have; its probability is 0.

        Raises:
            PredictionsError: not an (n, k) table of numbers with k > 1, a row without an option, or
                labels that name no column.
        """
        table = arrays.logits(logits, _where(probe))
        shifted = np.exp(table - table.max(axis=1, keepdims=True))
        return cls.from_probabilities(
            shifted / shifted.sum(axis=1, keepdims=True),
            labels,
            item_ids=item_ids,
            groups=groups,
            slices=slices,
            texts=texts,
            probe=probe,
            model=model,
            signature=signature,
            class_names=_classes(logits, class_names) or None,
        )

    @classmethod
    def from_trainer(
        cls,
        output: Any,
        *,
        shift: bool | None = None,
        item_ids: Sequence[object] | None = None,
        groups: Sequence[object] | None = None,
        slices: Sequence[object] | None = None,
        texts: Sequence[str] | None = None,
        probe: str = "evaluation",
        model: str | None = None,
        signature: Signature | None = None,
        class_names: Sequence[object] | Mapping[Any, object] | None = None,
    ) -> Predictions:
        """Build predictions from what ``Trainer.predict`` returns.

        Labels of -100 do not count. Of a token-level model each label that counts is an item, by
        its row and position, and the labels of one row are one group; of the probabilities, those
        of the answer and the label are kept.

        Args:
            output: ``PredictionOutput`` or ``EvalPrediction``, or a pair (logits, labels): (n, k)
                with (n,), or (n, t, k) with (n, t). Of several outputs the first are the logits.
                In place of logits also what ``preprocess_logits_for_calibration`` kept.
            shift: whether position t predicts label t + 1 (language models) or its own (tagging).
                Needed where labels are (n, t).
            item_ids: (n,) id of each row.
            groups: (n,) group of each row.
            slices: (n,) subject of each row, for tables.
            texts: (n,) prompt of each row, for reports.
            probe: name under which a baseline is stored.
            model: name of the model, for reports and dumps.
            signature: settings that produced the numbers.
            class_names: (k,) names of the classes, such as those of ``config.id2label``.

        Raises:
            PredictionsError: shapes that do not fit, labels that are no classes, nothing to count,
                or token-level labels without ``shift``.
        """
        where = _where(probe)
        values, labels = parts_of(output, where)
        found = answers_of(values, labels, shift, where)
        given = {"item_ids": item_ids, "groups": groups, "slices": slices, "texts": texts}
        of_items: dict[str, Any] = _of_rows(given, found.rows.tolist(), len(labels), where)
        settings: dict[str, Any] = {"probe": probe, "model": model, "signature": signature}
        if found.logits is not None:
            return cls.from_logits(
                found.logits, found.labels, **of_items, **settings, class_names=class_names
            )
        hard = {} if item_ids is not None else {"labels": digest(found.labels.tobytes(), size=6)}
        if found.positions is not None:
            hard["predicts"] = "the next label" if shift else "its own label"
            rows = of_items.get("item_ids", found.rows.tolist())
            of_items["item_ids"] = [*zip(rows, found.positions.tolist(), strict=True)]
            of_items.setdefault("groups", rows)
        made = cls.from_confidence(found.confidence, found.correct, **of_items, **settings)
        return replace(
            made,
            label_logprobs=found.label_logprobs,
            unit="item" if found.positions is None else "token",
            signature=replace(made.signature, hard={**made.signature.hard, **hard}),
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        columns: Mapping[str, Any] | None = None,
        classes: Sequence[object] | None = None,
        probe: str = "frame",
        model: str | None = None,
        signature: Signature | None = None,
    ) -> Predictions:
        """Build predictions from a frame, by the names of its columns.

        ===============================  =========================================================
        columns                          what they hold
        ===============================  =========================================================
        ``confidence, correct``          the confidence in each answer, and whether it is right
        ``confidence, prediction,        the same, where the answer and the right one are there
        label``
        ``prob_<class> ..., label``      the probability of each class, and the right class
        ``probabilities, label``         the same in one column, of lists or of mappings by class
        ``logit_<class> ..., logits``    logits in place of probabilities
        ``id, group, slice, text``       of each item, where there are such columns
        ===============================  =========================================================

        Args:
            frame: a frame of pandas, polars or Arrow, a data set of Hugging Face, a mapping of
                columns, or a list of records.
            columns: what the frame calls them, where it is not as above:
                ``{"confidence": "score", "id": "question"}``. ``probabilities`` and ``logits`` may
                be a list of columns in the order of the classes, or how they begin: ``"p_*"``.
            classes: (k,) the classes in the order of the probabilities, where the names of the
                columns do not tell; labels are then classes, else numbers from 0.
            probe: name under which a baseline is stored.
            model: name of the model, for reports and dumps.
            signature: settings that produced the numbers.

        Raises:
            PredictionsError: columns that are missing, or the first cell that is wrong: says row,
                column, the value, and what to do.
            UsageError: ``columns`` is no mapping of roles to names.
        """
        where = _where(probe)
        table = frame if isinstance(frame, Table) else table_of(frame, columns, where)
        if table.n == 0 and table.cells:
            raise PredictionsError(f"{table.where}: holds no rows; there must be one per item.")
        build, arguments, hard = read_columns(table, columns, classes)
        signature = signature or Signature()
        made: Predictions = getattr(cls, build)(
            **arguments,
            probe=probe,
            model=model,
            signature=replace(signature, hard={**signature.hard, **hard}),
        )
        return made


def _where(probe: str) -> str:
    """Return the start of an error message."""
    return f"predictions of probe {probe!r}"


def _of_rows(
    given: Mapping[str, Any], rows: Sequence[int], n: int, where: str
) -> dict[str, list[Any]]:
    """Return, of columns with an entry for each of n rows, those of these rows."""
    found: dict[str, list[Any]] = {}
    for name, values in given.items():
        if values is None:
            continue
        column = as_list(values, name, where)
        if len(column) != n:
            raise PredictionsError(
                f"{where}: {name} has {len(column)} entries for {n} rows; give one entry a row."
            )
        found[name] = [column[row] for row in rows]
    return found


def _of_model(signature: Signature | None, model: str | None, where: str) -> Signature:
    """Return the signature, with the name of the model if one is given."""
    signature = signature or Signature()
    if model is None:
        return signature
    if not isinstance(model, str) or not model:
        raise PredictionsError(f"{where}: model must be the model's name, got {model!r:.80}.")
    return Signature(signature.hard, {**signature.soft, "model": model})


def _classes(table: Any, given: Any) -> list[Any]:
    """Return the classes: those given, else the columns of a data frame; empty without either."""
    if isinstance(given, Mapping):
        try:
            given = [given[key] for key in sorted(given, key=int)]
        except (TypeError, ValueError):
            raise PredictionsError(
                "class_names maps the number of a class to its name, as config.id2label, or lists "
                f"the names; got the key {next(iter(given))!r:.40}."
            ) from None
    if given is not None:
        return as_list(given, "class_names", "predictions")
    # pyarrow's columns are the values.
    columns = getattr(table, "column_names", getattr(table, "columns", None))
    return [] if columns is None or callable(columns) else list(columns)


def _class_names(classes: list[Any], given: Any, k: int) -> tuple[str, ...]:
    """Return what reports call the k classes."""
    if given is not None:
        return tuple(map(str, classes))
    # A frame may hold the table in a single column, of lists, and number its columns.
    named = len(classes) == k and classes != [*range(k)]
    return tuple(map(str, classes)) if named else ()


def _columns(
    n: int,
    probe: str,
    item_ids: Sequence[object] | None,
    groups: Sequence[object] | None,
    slices: Sequence[object] | None,
    texts: Sequence[str] | None,
) -> dict[str, Any]:
    """Return the fields that every builder makes alike; reports show the caller's own ids."""
    where = _where(probe)
    names = None if item_ids is None else arrays.id_texts(item_ids, "item_ids", where)
    prompts = None if texts is None else arrays.texts(texts, "texts", where).tolist()
    for name, column in (("item_ids", names), ("texts", prompts)):
        if column is not None and len(column) != n:
            raise PredictionsError(
                f"{where}: {name} has {len(column)} entries for {n} items; give one entry per item."
            )
    unnamed = names is None and prompts is None
    return {
        "item_ids": positional_ids(n) if names is None else hash_ids(names, salt=probe),
        "groups": groups,
        "slices": slices,
        "texts": None
        if unnamed
        else ItemTexts.from_list(
            [
                ItemText(prompt=prompt, name=name)
                for prompt, name in zip(prompts or [""] * n, names or [""] * n, strict=True)
            ]
        ),
    }


PredictionsLike: TypeAlias = Predictions | tuple[Any, Any]


def as_predictions(value: PredictionsLike) -> Predictions:
    """Return predictions as they are, or build them from a pair of arrays.

    A pair is (probabilities (n, k), labels (n,)), or (confidence (n,), correct (n,) of booleans).

    Raises:
        PredictionsError: anything else; one-dimensional probabilities with integer labels are
            refused, since "the probability of class 1" and "the confidence" look alike.
    """
    if isinstance(value, Predictions):
        return value.whole
    if isinstance(value, tuple) and len(value) == 2:
        where = "predictions"
        first = as_array(value[0], "probabilities", where)
        if first.ndim != 1 and first.shape[1:] != (1,):
            # A frame names its columns; an iterator is used up.
            table = value[0] if hasattr(value[0], "__array__") else first
            return Predictions.from_probabilities(table, value[1])
        second = as_array(value[1], "correct", where)
        if second.dtype == np.bool_:
            return Predictions.from_confidence(first, second)
        raise PredictionsError(
            "one-dimensional probabilities with labels are ambiguous: for a binary classifier pass "
            "both columns, (n, 2); for confidences pass booleans that say which answers are "
            "correct, or use Predictions.from_confidence(confidence, correct)."
        )
    raise PredictionsError(
        f"expected Predictions or a pair (probabilities, labels), got {type(value).__name__}."
    )
