"""Classification probe: texts with their right classes, asked of a classifier.

A text has one class, any number of classes, or one for each of its words. A model of natural
language inference classifies by hypotheses (Yin et al. 2019): the class whose hypothesis the text
entails most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pytest_calibration.errors import ModelError, ProbeError, UsageError
from pytest_calibration.items.sources import DatasetSetting, read_rows, source_of
from pytest_calibration.models.protocols import Model, Text
from pytest_calibration.predictions import IdArray, Predictions, hash_ids
from pytest_calibration.predictions.conversion import as_list
from pytest_calibration.predictions.item_text import ItemText, ItemTexts
from pytest_calibration.probes.labels import (
    KEYS,
    ClassSetting,
    Columns,
    Label,
    Labelled,
    Translation,
    label_text,
    labelled_item,
    shape_of,
)
from pytest_calibration.probes.probe import ItemProbe, chosen, numbers

SUM_SLACK: Final = 0.01
PLACE: Final = "{}"
"""Where a hypothesis has the class."""
SCORING: Final = {
    "one": "softmax over classes",
    "several": "each class by itself",
    "words": "softmax over classes at the first token of each word",
}
ANSWERS: Final = ("no", "yes")
"""What is said of a class where a text may have any number of them."""


class Classification(ItemProbe[Labelled]):
    """Classify texts, pairs of texts, or the words of texts.

    Where a text may have any number of classes, each (text, class) is an item, and the answer is
    whether the text has it. Items of one text are a group.

    Args:
        name: name of the probe.
        path: JSONL or CSV file of ``{"text", "label"}`` rows, with ``text_pair`` for pairs; or of
            ``{"tokens", "labels"}`` rows.
        dataset: a public data set in place of a file.
        classes: the names that the indices of rows stand for, in order; or the model's name of each
            label of rows. By default a label is a name of the model's, or its index.
        hypothesis: for a model of natural language inference: a sentence with ``{}`` for the class,
            such as ``This example is {}.``
        truncate: whether texts that are longer than what the model reads are cut; they are an error
            otherwise.

    Raises:
        ItemError: a bad row.
        ProbeError: rows with one label and rows with several.
        UsageError: no items, a hypothesis without its place, or settings that do not go together.
    """

    kind = "classification"
    unit = "texts"

    def __init__(
        self,
        name: str = "classification",
        *,
        path: str | Path | None = None,
        dataset: DatasetSetting = None,
        classes: ClassSetting = None,
        hypothesis: str | None = None,
        truncate: bool = False,
    ) -> None:
        source = source_of(name, path, dataset)
        if source is None:
            raise UsageError(
                f"probe {name!r}: there are no built-in items of kind {self.kind}; name a file of "
                'rows {"text", "label"} (path) or a dataset.'
            )
        super().__init__(name, read_rows(source, labelled_item, KEYS), source)
        self.shape = shape_of(name, self.items)
        labels = [one for item in self.items for one in item.labels if one is not None]
        self.translation = Translation(name, classes, labels)
        if hypothesis is not None and hypothesis.count(PLACE) != 1:
            raise UsageError(
                f"probe {name!r}: the hypothesis must have {PLACE} once, where the class stands, "
                f"got {hypothesis!r}."
            )
        for setting, given in (("hypothesis", hypothesis is not None), ("truncate", truncate)):
            if given and self.shape == "words":
                raise UsageError(
                    f"probe {name!r}: {setting} is for texts with a label, and these rows have "
                    "tokens and labels; leave it out."
                )
        self.hypothesis = hypothesis
        self.truncate = truncate
        if self.shape == "words":
            self.asks = "token_class_probabilities"
        else:
            self.asks = "class_probabilities" if hypothesis is None else "class_logits"

    def content(self, item: Labelled) -> tuple[object, ...]:
        """Return what identifies a text."""
        labels = (one if one is None else label_text(one) for one in item.labels)
        return item.text, item.pair or "", *item.words, *labels

    def run(self, model: Any, *, limit: int | None = None) -> Predictions:
        """Classify every text; ``limit`` counts items.

        Raises:
            ProbeError: a label that is none of the model's classes.
            ModelError: the model cannot score, or is of another kind.
        """
        columns = self._columns(model)
        if self.shape == "one":
            return self._one(model, columns, limit)
        if self.shape == "several":
            return self._several(model, columns, limit)
        return self._each_word(model, columns, limit)

    # --- the three shapes ----------------------------------------------------------------------

    def _one(self, model: Any, columns: Columns, limit: int | None) -> Predictions:
        items, fields = self.sample(limit)
        labels = [columns.of(self._called(item.labels[0])) for item in items]
        table, notes = self._probabilities(model, columns, [item.asked for item in items])
        return self._predictions(
            model, columns, table, np.array(labels, dtype=np.int64), notes,
            texts=lambda i: (items[i], ""),
            **fields,
        )  # fmt: skip

    def _several(self, model: Any, columns: Columns, limit: int | None) -> Predictions:
        """Judge each class of each text by itself."""
        if not columns.names:
            raise ProbeError(
                f"probe {self.name!r}: rows with a list of labels need a model with class_names, "
                f"and {model.name} has none."
            )
        k = len(columns.names)
        ids, owner = self._part_ids([range(k)] * len(self.items), columns.names.__getitem__)
        kept = self._kept(ids, owner, limit)
        rows, where = np.unique(owner[kept], return_inverse=True)
        table, notes = self._probabilities(model, columns, [self.items[i].asked for i in rows])
        right = np.zeros((len(rows), k), dtype=np.int64)
        for row, i in enumerate(rows):
            right[row, [columns.of(self._called(label)) for label in self.items[i].labels]] = 1
        at = where, kept % k
        p = table[at]
        class_of = [columns.names[c] for c in at[1]]
        own = [self.items[i].slice for i in owner[kept]]
        return self._predictions(
            model, columns, np.column_stack([1 - p, p]), right[at], notes,
            texts=lambda i: (self.items[owner[kept[i]]], class_of[i]),
            probe=self.name,
            item_ids=ids[kept],
            groups=self._groups(owner[kept]),
            slices=own if any(own) else class_of,
        )  # fmt: skip

    def _each_word(self, model: Any, columns: Columns, limit: int | None) -> Predictions:
        """Judge each word that has a label."""
        judged = [[j for j, one in enumerate(i.labels) if one is not None] for i in self.items]
        if not any(judged):
            raise ProbeError(f"probe {self.name!r}: no word has a label.")
        ids, owner = self._part_ids(judged, str)
        places = np.array(list(chain.from_iterable(judged)))
        kept = self._kept(ids, owner, limit)
        rows, where = np.unique(owner[kept], return_inverse=True)
        words = [self.items[i].words for i in rows]
        given = as_list(model.token_class_probabilities(words), self.asks, str(model.name))
        tables = [numbers(model, self.asks, table) for table in given]
        self.check_scored(len(tables), len(rows))
        for one, table in zip(words, tables, strict=True):
            self._check_table(model, table, len(one), columns)
        at = list(zip(where.tolist(), places[kept].tolist(), strict=True))
        table = np.array([tables[row][place] for row, place in at])
        labels = [columns.of(self._called(self.items[rows[r]].labels[j])) for r, j in at]
        own = [self.items[i].slice for i in owner[kept]]
        return self._predictions(
            model, columns, _ordered(table, columns), np.array(labels, dtype=np.int64), (),
            texts=lambda i: (self.items[owner[kept[i]]], words[at[i][0]][at[i][1]]),
            probe=self.name,
            item_ids=ids[kept],
            groups=self._groups(owner[kept]),
            unit="token",
            **({"slices": own} if any(own) else {}),
        )  # fmt: skip

    def _part_ids(
        self, parts: Sequence[Sequence[int]], shown: Callable[[int], str]
    ) -> tuple[IdArray, NDArray[np.int64]]:
        """Return the id of each part of each text, and the position of its text."""
        keys = [f"{i}:{shown(j)}" for i, js in zip(self.ids(), parts, strict=True) for j in js]
        return hash_ids(keys, self.digest), np.repeat(np.arange(len(parts)), list(map(len, parts)))

    def _kept(self, ids: IdArray, owner: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
        """Return the positions of the parts that are asked, all of a group or none of it."""
        index = chosen(ids, limit)
        return np.array(self.part(ids, index, self._groups(owner[index])))

    def _groups(self, owner: NDArray[np.int64]) -> list[str]:
        return [self.items[i].group or f"text-{i}" for i in owner]

    # --- what the model is asked ---------------------------------------------------------------

    def _columns(self, model: Any) -> Columns:
        """Return which column is which class."""
        labels = [self._called(one) for i in self.items for one in i.labels if one is not None]
        if self.hypothesis is None:
            given = getattr(model, "class_names", None)
            names: Sequence[str] = () if given is None else tuple(map(str, given))
        else:
            # The classes are those of the probe; the model's own say what it can conclude.
            # A number is none: tables of text have the indices of classes as texts.
            texts = (label_text(label) for label in labels)
            named = {text for text in texts if not text.isdecimal()}
            names = self.translation.names or sorted(named)
            if len(names) < 2:
                raise ProbeError(
                    f"probe {self.name!r}: a hypothesis needs two classes or more to choose from, "
                    f"got {list(names)!r}; name them: classes: [...]."
                )
        return Columns(self.name, str(model.name), names, labels)

    def _called(self, label: Label | None) -> Label:
        assert label is not None
        return self.translation(label)

    def _probabilities(
        self, model: Any, columns: Columns, texts: Sequence[Text]
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return the probability of each class, in the order of the columns, and what to note."""
        if self.hypothesis is not None:
            return self._by_hypothesis(model, columns, texts)
        several = bool(getattr(model, "multi_label", False))
        if several != (self.shape == "several"):
            found = "any number of labels" if several else "one label"
            rows = "a list of labels each" if self.shape == "several" else "one label each"
            raise ModelError(
                f"{model.name}: gives a text {found}, and the rows of probe {self.name!r} have "
                f"{rows}; write the other kind of rows, or say problem_type: "
                f"{'single' if several else 'multi'}_label_classification under model: "
                f"{{arguments: ...}} in calibration.yaml (multi_label = {not several} on a model "
                "of your own)."
            )
        options, notes = self._cutting(model, texts, "longest_first")
        table = numbers(model, self.asks, model.class_probabilities(texts, **options))
        self._check_table(model, table, len(texts), columns, summing=not several)
        return _ordered(table, columns), notes

    def _by_hypothesis(
        self, model: Any, columns: Columns, texts: Sequence[Text]
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return how far each text entails each hypothesis, against the others or by itself."""
        own = [str(name) for name in getattr(model, "class_names", ())]
        entailment = self._conclusion(model, own, "entail")
        pairs: list[Text] = []
        for text in texts:
            premise = text if isinstance(text, str) else "\n".join(text)
            pairs += [(premise, self._hypothesis(name)) for name in columns.names]
        options, notes = self._cutting(model, pairs, "only_first")
        logits = numbers(model, self.asks, model.class_logits(pairs, **options))
        if logits.shape != (len(pairs), len(own)):
            raise ModelError(
                f"{model.name}: class_logits gives an array of shape {logits.shape} for "
                f"{len(pairs)} pairs and {len(own)} classes."
            )
        entailed = logits[:, entailment]
        if self.shape == "several":
            entailed = entailed - logits[:, self._conclusion(model, own, "contra")]
            # The logistic function, which overflows nowhere in this form.
            return ((1 + np.tanh(entailed / 2)) / 2).reshape(len(texts), -1), notes
        table = entailed.reshape(len(texts), -1)
        shifted = np.exp(table - table.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True), notes

    def _hypothesis(self, name: str) -> str:
        assert self.hypothesis is not None
        return self.hypothesis.replace(PLACE, name)

    def _conclusion(self, model: Any, names: Sequence[str], begin: str) -> int:
        """Return the column of entailment or contradiction, by the begin of its name."""
        found = [i for i, name in enumerate(names) if name.lower().startswith(begin)]
        if not found and begin == "contra" and len(names) == 2:
            # Of two classes the other one says that the text does not entail it.
            found = [1 - self._conclusion(model, names, "entail")]
        if len(found) != 1:
            raise ModelError(
                f"{model.name}: a hypothesis needs a model of natural language inference, and "
                f"{len(found) or 'none'} of its classes ({', '.join(names)[:200]}) begins with "
                f"{begin!r}; where it is one, name its classes: model: {{arguments: {{id2label: "
                "{0: contradiction, 1: neutral, 2: entailment}}} in calibration.yaml."
            )
        return found[0]

    def _cutting(
        self, model: Any, texts: Sequence[Text], how: str
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return what says that long texts are cut, and how many are."""
        if not self.truncate:
            return {}, ()
        cut = int(np.sum(model.truncated(texts)))
        what = "texts" if self.hypothesis is None else "pairs of a text and a hypothesis"
        note = f"longer than what the model reads, and cut: {cut:,} of {len(texts):,} {what}."
        return {"truncate": how}, (note,) if cut else ()

    def _check_table(
        self,
        model: Any,
        table: NDArray[np.float64],
        n: int,
        columns: Columns,
        *,
        summing: bool = True,
    ) -> None:
        """Raise ModelError for what are no probabilities of the classes of n texts or words."""
        k = len(columns.names)
        if table.ndim != 2 or len(table) != n or table.shape[1] < 2 or k not in (0, len(table[0])):
            known = f" and {k} classes" if k else ", which needs a column per class, two at least"
            if summing or table.shape != (n, k):
                raise ModelError(
                    f"{model.name}: gives probabilities of shape {table.shape} for {n} "
                    f"{'words' if self.shape == 'words' else 'texts'}{known}."
                )
        sums = table.sum(axis=1)
        off = np.flatnonzero(~(np.abs(sums - 1) <= SUM_SLACK))
        if summing and len(off):
            raise ModelError(
                f"{model.name}: row {off[0]} of the class probabilities sums to "
                f"{sums[off[0]]:.6g}, not 1; a classifier gives probabilities, not logits."
            )

    # --- what comes of it ----------------------------------------------------------------------

    def _predictions(
        self,
        model: Model,
        columns: Columns,
        table: NDArray[np.float64],
        labels: NDArray[np.int64],
        notes: tuple[str, ...],
        *,
        texts: Callable[[int], tuple[Labelled, str]],
        **fields: Any,
    ) -> Predictions:
        """Build predictions from the probability of each answer and the right one."""
        names = ANSWERS if self.shape == "several" else columns.names
        answers = table.argmax(axis=1)
        rows = np.arange(len(table))
        gold = np.maximum(table[rows, labels], np.finfo(np.float64).tiny)

        def text_at(row: int) -> ItemText:
            item, part = texts(row)
            gold, answer = (
                names[i] if names else f"class {i}" for i in (int(labels[row]), int(answers[row]))
            )
            # Which word, or which class of a text that may have several.
            prompt = f"{item.shown} [{part}]" if part else item.shown
            return ItemText(prompt, gold, answer, name=item.id or "")

        hard = {"scoring": SCORING[self.shape], "classes": columns.described()}
        if self.hypothesis is not None:
            against = "contradiction" if self.shape == "several" else "that of the other classes"
            hard["scoring"] = f"entailment against {against}"
            hard["hypothesis"] = repr(self.hypothesis)
        if self.truncate:
            hard["long texts"] = "cut"
        return Predictions(
            confidence=table[rows, answers],
            correct=answers == labels,
            probabilities=table,
            labels=labels,
            label_logprobs=np.log(gold),
            texts=ItemTexts(text_at, rows),
            class_names=names,
            signature=self.signature(model, hard),
            notes=notes,
            **fields,
        )


def _ordered(table: NDArray[np.float64], columns: Columns) -> NDArray[np.float64]:
    return table if columns.order is None else np.asarray(table[:, columns.order])
