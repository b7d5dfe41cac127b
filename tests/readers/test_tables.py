"""Predictions in CSV, JSON lines, JSON records and Parquet."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_calibration.errors import MissingExtra, PredictionsError, UsageError
from pytest_calibration.predictions import Predictions
from pytest_calibration.readers import kind_of, read_all, read_predictions

HEADER = "confidence,correct\n"
CLASSES = "prob_cat,prob_dog,label\n"
PLAIN = Predictions.from_confidence([0.9, 0.4], [True, False], probe="p")
TABLE = Predictions.from_probabilities([[0.3, 0.7], [0.5, 0.5]], [1, 1], probe="p")


def written(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def same(one: Predictions, other: Predictions) -> bool:
    """Whether two sets of predictions are equal in all that is compared."""
    arrays = ("confidence", "correct", "item_ids", "probabilities", "labels")
    return one.signature.hard == other.signature.hard and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        if getattr(other, name) is not None
        else getattr(one, name) is None
        for name in arrays
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "confidence,correct\n0.9,1\n0.4,0\n"),
        ("p.csv", "\ufeffcorrect,confidence\r\nTrue,0.9\r\nFALSE, .4\r\n"),
        ("p.csv", "confidence;correct\n0,9;1.0\n\n0,4;0\n"),
        ("p.csv", 'confidence, correct, text\n0.9, 1, "a, b"\n0.4, 0, "c"\n'),
        ("p.csv", "sep=;\nconfidence;correct;\n0.9;true;\n4e-1;false;\n"),
        ("p.tsv", "confidence\tcorrect\n0.9\ttrue\n0,4\tfalse\n"),
        ("p.txt", "confidence|correct|text\n0.9|1|a, b\n0.4|0|c;d\n"),
        ("p.csv", 'confidence,correct,text\n0.9,1,"a ""b""\n\n, c"\n0.4,0,\n'),
        ("p.csv", "confidence,prediction,label\n0.9,cat,cat\n0.4,1,2.0\n"),
        ("p.csv", "confidence,prediction,label\n0.9,True,1\n0.4,FALSE,1.0\n"),
        ("p.csv", ",confidence,correct\n0,0.9,True\n1,0.4,False\n"),
        ("p.jsonl", '{"confidence":0.9,"correct":true}\n\n{"correct":0,"confidence":"0.4"}'),
        (
            "p.ndjson",
            '\ufeff{"confidence":0.9,"correct":1,"doc":{}}\n{"confidence":0.4,"correct":0}',
        ),
        ("p.json", '{"confidence":0.9,"correct":true}\n{"confidence":0.4,"correct":false}\n'),
        ("p.json", '[{"confidence":0.9,"correct":true},{"confidence":0.4,"correct":false}]'),
    ],
)
def test_confidence_and_correctness_are_read(tmp_path: Path, name: str, text: str) -> None:
    """Whatever the delimiter, the order of columns and the spelling of numbers."""
    path = written(tmp_path, name, text)
    found = read_predictions(path)
    assert same(replace(found, signature=PLAIN.signature), PLAIN)
    assert found.signature.hard.keys() == ({"labels"} if "label" in text else set())
    # Twelve digits tell two lists of labels apart, and stay short in a record.
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in found.signature.hard.values())
    assert (found.probe, found.signature.soft) == ("p", {"model": name})
    assert kind_of(path) == "table"


@pytest.mark.parametrize(
    ("name", "text", "arguments"),
    [
        ("p.csv", "prob_cat,prob_dog,label\n.3,.7,dog\n.5,.5,dog\n", {}),
        ("p.csv", "prob_0,label,prob_1\n.3,1,.7\n.5,1.0,.5\n", {}),
        ("p.csv", "prob_1,label,prob_2\n.3,2,.7\n.5,2.0,.5\n", {}),
        ("p.csv", "prob_0,prob_1,label\n.3,.7,True\n.5,.5,TRUE\n", {}),
        ("p.csv", "prob_False,prob_True,label\n.3,.7,1\n.5,.5,true\n", {}),
        ("p.csv", "prob_0,prob_1,label,prediction\n.3,.7,1,1\n.5,.5,1,1\n", {}),
        (
            "p.csv",
            "prob_0,prob_1,label,confidence,correct\n.3,.7,1,.7,1\n.5,.5,1,.5,0\n",
            {},
        ),
        (
            "p.csv",
            'probabilities,label\n"[np.float64(0.3), np.float64(7e-1)]",1\n"[0.5, 0.5]",1\n',
            {},
        ),
        (
            "p.csv",
            "probabilities|label\n{'a': np.float32(0.3), 'b': 0.7}|b\n{'b': 0.5, 'a': 0.5}|b\n",
            {},
        ),
        (
            "p.csv",
            'x,gold\n"[.3, .7]",1\n[0.5 0.5],1\n',
            {"columns": {"probabilities": "x", "label": "gold"}},
        ),
        ("p.csv", "a,b,label\n.3,.7,1\n.5,.5,1\n", {"columns": {"probabilities": ["a", "b"]}}),
        ("p.csv", "a,b,label\n.3,.7,b\n.5,.5,b\n", {"columns": {"probabilities": ["a", "b"]}}),
        ("p.csv", "p_a,p_b,label\n.3,.7,b\n.5,.5,b\n", {"columns": {"probabilities": "p_*"}}),
        (
            "p.csv",
            "p_a,p_b,label\n.3,.7,y\n.5,.5,y\n",
            {"columns": {"probabilities": "p_*"}, "classes": ["x", "y"]},
        ),
        (
            "p.jsonl",
            '{"probabilities":[0.3,0.7],"label":1}\n{"probabilities":[0.5,0.5],"label":1}',
            {},
        ),
        (
            "p.jsonl",
            '{"probabilities":{"a":0.3,"b":0.7},"label":"b"}\n'
            '{"probabilities":{"b":0.5,"a":0.5},"label":"b"}',
            {},
        ),
        (
            "p.jsonl",
            '{"scores":[{"label":"b","score":0.7},{"label":"a","score":0.3}],"label":"b"}\n'
            '{"scores":[{"label":"a","score":0.5},{"label":"b","score":0.5}],"label":"b"}',
            {"columns": {"probabilities": "scores"}},
        ),
        (
            "p.json",
            '[{"probabilities":[0.3,0.7],"label":"y"},{"probabilities":[0.5,0.5],"label":"y"}]',
            {"classes": ["x", "y"]},
        ),
    ],
)
def test_probabilities_and_labels_are_read(
    tmp_path: Path, name: str, text: str, arguments: dict[str, Any]
) -> None:
    """One column for each class, or one of lists; labels are classes, or number them."""
    assert same(read_predictions(written(tmp_path, name, text), **arguments), TABLE)


def test_logits_of_any_level_agree_with_the_confidence_beside_them(tmp_path: Path) -> None:
    """Each row by itself: 1 / (1 + exp(-1)) = 0.73, whatever is added to all logits of a row."""
    rows = "1000,1001,b,.73,1\n-1000,-1001,b,.73,0\n"
    found = read_predictions(
        written(tmp_path, "p.csv", "logit_a,logit_b,label,confidence,correct\n" + rows)
    )
    assert found.confidence == pytest.approx([1 / (1 + math.exp(-1))] * 2)
    assert found.correct.tolist() == [True, False]


def test_objects_may_name_the_classes_in_any_order(tmp_path: Path) -> None:
    """Of pipelines the most probable class comes first: two files are of the same items."""
    made = [
        read_predictions(
            written(tmp_path, f"{name}.jsonl", f'{{"probabilities":{{{scores}}},"label":"a"}}'),
            probe="p",
        )
        for name, scores in (("x", '"b":0.9,"a":0.1'), ("y", '"a":0.9,"b":0.1'))
    ]
    assert made[0].signature.hard == made[1].signature.hard
    assert made[0].classes == made[1].classes == ("a", "b")
    assert [one.correct.tolist() for one in made] == [[False], [True]]
    numbered = {"probabilities": [{1: 0.9, 0: 0.1}], "label": [1]}
    assert Predictions.from_frame(numbered).correct.tolist() == [True]


def test_logits_are_read(tmp_path: Path) -> None:
    """By the names of their columns, or by what the caller says; also log-probabilities."""
    logits = [[0.0, 2.0], [1.0, -1.0]]
    expected = Predictions.from_logits(logits, [1, 1], probe="p")
    rows = "".join(f"{a},{b},1\n" for a, b in logits)
    path = written(tmp_path, "p.csv", f"logit_0,logit_1,label\n{rows}")
    assert same(read_predictions(path), expected)
    path = written(tmp_path, "p.csv", f"a,b,label\n{rows}")
    assert same(read_predictions(path, columns={"logits": ["a", "b"]}), expected)


def test_ids_groups_slices_and_texts_are_those_of_arrays(tmp_path: Path) -> None:
    """A file and arrays of the same content are the same items, by id."""
    text = "qid,confidence,correct,group,slice,text\n1,.9,1,g,s,who?\nb,.4,0,,,\n"
    path = written(tmp_path, "a.csv", text)
    found = read_predictions(path, probe="quiz", model="runs/sft", columns={"id": "qid"})
    arrays = Predictions.from_confidence(
        [0.9, 0.4],
        [True, False],
        item_ids=[1, "b"],
        groups=["g", None],
        slices=["s", None],
        probe="quiz",
    )
    assert same(found, arrays)
    assert found.groups is not None
    assert found.slices is not None
    assert arrays.groups is not None
    assert found.groups.tolist() == arrays.groups.tolist()
    assert found.slices.tolist() == ["s", ""]
    assert found.texts is not None
    assert (found.texts[0].prompt, found.texts[0].name) == ("who?", "1")
    assert found.signature.soft == {"model": "runs/sft"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # numbers
        (
            HEADER + "0.5,1\n87.5,1\n",
            "line 3, column 'confidence': '87.5' lies outside [0, 1]; divide percentages by 100",
        ),
        (HEADER + "100,1\n", "'100' lies outside [0, 1]; divide percentages by 100"),
        (HEADER + "100.5,1\n", "lies outside [0, 1]; give the probability of the answer."),
        (
            HEADER + "0.5,1\n-2.5,1\n",
            "line 3, column 'confidence': '-2.5' lies outside [0, 1]; give the probability "
            "of the answer, not its logarithm or logit",
        ),
        (HEADER + "500,1\n", "'500' lies outside [0, 1]; give the probability of the answer"),
        (
            HEADER + "0.5,1\n,1\n",
            "line 3, column 'confidence': is missing; leave its row out, or give a value",
        ),
        (HEADER + "nan,1\n", "line 2, column 'confidence': 'nan' is no probability"),
        (HEADER + "inf,1\n", "line 2, column 'confidence': 'inf' is no probability"),
        (HEADER + "90%,1\n", "line 2, column 'confidence': '90%' is no number; write 87 % as 0.87"),
        (HEADER + "high,1\n", "line 2, column 'confidence': 'high' is no number"),
        (
            HEADER + '"0,9",1\n',
            "line 2, column 'confidence': '0,9' is no number; write the decimal point as a point",
        ),
        (
            HEADER + "0,9,1\n",
            "line 2: has 3 cells, and the header has 2; put cells that hold the delimiter, "
            "such as decimal commas, into quotes",
        ),
        (HEADER + "0.9\n", "line 2: has 1 cells, and the header has 2; one cell for each column"),
        # outcomes
        (
            HEADER + "0.5,yes\n",
            "line 2, column 'correct': 'yes' does not say whether the answer is right; write "
            "true or false, or 1 or 0",
        ),
        (HEADER + "0.5,2\n", "'2' does not say whether"),
        (HEADER + "0.5,\n", "line 2, column 'correct': is missing"),
        # classes
        (
            CLASSES + ".5,.5,cat\n-1.5,2.5,dog\n",
            "line 3, column 'prob_cat': -1.5 lies outside [0, 1]; if these are logits, say "
            'so: columns={"logits": "prob_*"}',
        ),
        (CLASSES + "-.693147,-.693147,cat\n", "log-probabilities are logits: columns="),
        (
            CLASSES + "50,50,cat\n30,70,dog\n",
            "line 2, column 'prob_cat': 50 lies outside [0, 1]; divide percentages by 100",
        ),
        (
            CLASSES + ".5,.5,cat\n.5,.7,dog\n",
            "line 3, column 'prob_cat': the probabilities of the row sum to 1.2, not 1; "
            "divide each row by its sum",
        ),
        (CLASSES + ".5,,cat\n", "line 2, column 'prob_dog': is missing"),
        (CLASSES + ".5,nan,cat\n", "line 2, column 'prob_dog': nan is no finite number"),
        (
            CLASSES + ".5,.5,cow\n",
            "line 2, column 'label': 'cow' is none of the classes 'cat', 'dog'",
        ),
        (CLASSES + ".5,.5,dogs\n", "(did you mean 'dog'?)"),
        (
            CLASSES + ".5,.5,1\n",
            "where labels number the classes, list these columns in their order: "
            'columns={"probabilities": ["prob_a", "prob_b"]} '
            "(--column probabilities=prob_a,prob_b)",
        ),
        (CLASSES + ".5,.5,\n", "line 2, column 'label': is missing"),
        ("prob_1,prob_1.0,label\n.5,.5,1\n", "two classes are called '1'"),
        (
            "prob_yes,label\n.5,yes\n",
            "there is one column of probabilities ('prob_yes'), and a classifier has two "
            "classes at least: add the column of the other class, 1 minus this one",
        ),
        (
            "prob_max,prob_a,prob_b,label\n.6,.4,.6,a\n",
            "sum to 1.6, not 1; divide each row by its sum if these are scores of one choice, or, "
            'if they are logits, say so: columns={"logits": "prob_*"} (--column "logits=prob_*"); '
            "list the columns of the classes if others begin alike",
        ),
        (
            "prob_cat,prob_dog\n.5,.5\n",
            "has probabilities (column 'prob_cat'), and no column 'label'",
        ),
        (
            "logit_a,logit_b,label\n-inf,-inf,a\n",
            "line 2, column 'logit_a': is -inf, as in every other column",
        ),
        (
            "probabilities,label\n0.4,1\n",
            "line 2, column 'probabilities': '0.4' is no list of numbers, such as [0.2, 0.8]",
        ),
        (
            "probabilities,label\n[0.1 ... 0.4],1\n",
            "holds what is no number; give one number for each class",
        ),
        (
            "confidence,correct,prob_a,prob_b,label\n.9,1,.5,.5,a\n",
            "line 2, column 'confidence': '.9' is not what the probabilities say (0.5); say "
            "which counts",
        ),
        (
            "confidence,correct,logit_a,logit_b,label\n.9,1,0,0,a\n",
            "line 2, column 'confidence': '.9' is not what the logits say (0.5); say which counts",
        ),
        (
            'probabilities,prediction,label\n"[0.6, 0.4]",0,0\n"[0.6, 0.4]",1,0\n',
            "line 3, column 'prediction': '1' is not what the probabilities say ('0'); say which",
        ),
        (
            "prob_false,prob_true,prediction,label\n.6,.4,True,false\n",
            "'True' is not what the probabilities say ('false')",
        ),
        (
            "prob_a,prob_b,prediction,label\n.5,.5,b,a\n.6,.4,b,b\n",
            "line 3, column 'prediction': 'b' is not what the probabilities say ('a'); say which",
        ),
        (
            "prob_a,prob_b,prob_c,label\n.6,.2,.2,True\n",
            "line 2, column 'label': 'True' is none of the classes 'a', 'b', 'c'",
        ),
        # confidence, prediction and label
        (
            "confidence,prediction,label\n" + ".3,0,0\n" * 5 + ".7,1,0\n",
            "line 2, column 'confidence': '.3' is no confidence in the answer '0': the column is "
            "at most 0.5 for all answers '0' and at least 0.5 for all '1', as the probability of "
            "'1' is; give the columns prob_0 = 1 - p and prob_1 = p in its place",
        ),
        (
            "confidence,prediction,label\n.9,1,dog\n.8,0,cat\n",
            "line 2, column 'prediction': '1' is never a value of column 'label' (such as 'dog'), "
            "nor is any other answer; write both columns alike, or say in a column 'correct'",
        ),
        (
            "confidence,prediction,label\n.9,nan,nan\n",
            "line 2, column 'prediction': 'nan' may stand for a missing value; leave its row out",
        ),
        (
            'confidence,correct,group\n.9,TRUE,"a"\n.8,TRUE,NA\n',
            "line 3, column 'group': 'NA' may stand for a missing value; leave its cell empty",
        ),
        # ids
        (
            "id,confidence,correct\na,.5,1\nb,.5,1\na,.4,0\n",
            "line 4, column 'id': 'a' is the id of line 2, too; give each item an id of its "
            "own, or leave the column out",
        ),
        ("id,confidence,correct\na,.5,1\n,.5,1\n", "line 3, column 'id': is missing"),
        # the table
        ("", "is empty; its first line must name the columns"),
        ("\n\n", "is empty"),
        (HEADER, "holds no rows"),
        (
            "a,b\n1,2\n",
            "holds no predictions: needs the columns confidence and correct, or confidence, "
            "prediction and label, or prob_<class> for each class and label; name yours with "
            'columns={"confidence": "score", ...} (--column confidence=score)',
        ),
        # columns of classes under a name of their own, which the sentence tells how to read
        (
            "label,proba_a,proba_b\na,.5,.5\n",
            'columns={"probabilities": "proba_*", ...} (--column \'probabilities=proba_*\')',
        ),
        ("y,p.a,p.b\na,.5,.5\n", "(--column 'probabilities=p.*')"),
        ("label,logits_a,logits_b\na,5,5\n", "(--column 'logits=logits_*')"),
        ("label,score_a,b\na,.5,.5\n", "(--column confidence=score)"),
        ("0.5,1\n0.4,0\n", "line 1: holds values ('0.5,1'), and must name the columns"),
        (
            "confidence,confidence,correct\n.5,.5,1\n",
            "columns 1 and 2 are both called 'confidence'",
        ),
        (
            "confidence,is_correct\n.5,1\n",
            "no column 'correct' (did you mean 'is_correct'?); if it has another name, say "
            'so: columns={"correct": "..."} (--column correct=...)',
        ),
        (HEADER + '"1",.5,TRUE\n', "give row names a header or leave them out (R: row.names"),
        (HEADER + ".5,1\nconfidence,correct\n.4,0\n", "line 3: is the header once more"),
        ('confidence,correct,text\n.5,1,"abc\n.4,0,x\n', "line 2: is no row of a CSV file"),
        (HEADER.encode("utf-16"), "is UTF-16 or UTF-32 text"),
        (b"confidence,correct,text\n.5,1,\xe9\n", "line 2 is not UTF-8"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    """File, line, column and value, and what to do."""
    path = written(tmp_path, "p.csv", text)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_columns_that_no_role_has_may_be_called_alike(tmp_path: Path) -> None:
    """Only what is read must be one column."""
    path = written(tmp_path, "p.csv", "x,confidence,x,correct\n1,.9,2,1\n1,.4,2,0\n")
    assert same(replace(read_predictions(path), signature=PLAIN.signature), PLAIN)


@pytest.mark.parametrize("word", ["NA", "N/A", "#N/A", "<NA>", "nan", "NaN", "NaT"])
def test_what_may_stand_for_a_missing_value_is_asked_about(tmp_path: Path, word: str) -> None:
    """As R, pandas and Excel write it; a group may also be called so."""
    path = written(tmp_path, "p.csv", f"confidence,correct,group\n.9,1,{word}\n")
    with pytest.raises(PredictionsError, match=f"'{word}' may stand for a missing value"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"probabilities":[0.1,0.9],"label":2}',
            "line 1, column 'label': 2 is none of the classes 0 to 1; count from 0",
        ),
        (
            '{"probabilities":[0.1,0.9],"label":-100}',
            "-100 marks what does not count; leave its row out",
        ),
        (
            '{"probabilities":[0.1,0.9],"label":"pos"}',
            "'pos' is no number of a class; say which classes there are, in the order of the "
            "probabilities: classes=[...]",
        ),
        ('{"probabilities":[0.1,0.9],"label":1.5}', "1.5 is no number of a class"),
        (
            '{"probabilities":[0.1,0.9],"label":1}\n\n{"probabilities":[0.1,0.5,0.4],"label":1}',
            "line 3, column 'probabilities': has 3 entries, and line 1 has 2; give each row "
            "the same ones, with 0 for an option that it lacks",
        ),
        (
            '{"probabilities":{"a":0.1,"b":0.9},"label":"a"}\n'
            '{"probabilities":{"a":0.1,"c":0.9},"label":"a"}',
            "line 2, column 'probabilities': has other classes than line 1",
        ),
        ('{"probabilities":[0.1,null],"label":1}', "holds what is no number"),
        ('{"probabilities":[],"label":1}', "is no list of numbers"),
        (
            '{"confidence":0.5,"correct":1}\n{"confidence":0.5}',
            "line 2, column 'correct': is missing",
        ),
        ('{"confidence":NaN,"correct":1}', "line 1, column 'confidence': is missing"),
        (
            '{"confidence":0.5,"confidence":0.6,"correct":1}',
            "line 1: has the key 'confidence' twice",
        ),
        (
            '{"confidence":0.5,"correct":1,"id":{"a":1}}',
            "line 1, column 'id': is of type dict; give text, a number, or a tuple of these",
        ),
        ("[0.5]", "line 1: must be a JSON object"),
        ('{"confidence":', "line 1: is no JSON"),
        ("", "is empty; there must be one JSON object for each item"),
        ('{"question":"x","options":["a","b"],"answer":1}', "holds no predictions"),
    ],
)
def test_what_is_wrong_in_json_lines_is_named(tmp_path: Path, text: str, message: str) -> None:
    """File, line, column and value, and what to do."""
    path = written(tmp_path, "p.jsonl", text)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.xlsx", "PK", "save the predictions as CSV, Parquet or JSON Lines"),
        ("p.csv.gz", "x", "unpack it first"),
        ("p.npy", "x", "load it, and pass the arrays to Predictions.from_probabilities"),
        ("p.yaml", "a: 1", "a stored baseline is what predictions are compared with"),
        ("p", "x", "predictions are read from .csv, .tsv, .parquet, .jsonl and .json"),
        ("p.json", '{"version": "1"}', "is no list of records"),
        ("p.json", "[]", "holds no records"),
        ("p.json", "[", "is no JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """With what to do instead; no reader takes them."""
    path = written(tmp_path, name, text)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path)
    assert message in str(caught.value)
    assert kind_of(path) is None


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Nothing there, a folder, no path."""
    with pytest.raises(PredictionsError, match=r"none\.csv: there is no such file"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(PredictionsError, match=r"it is a folder without samples_\*\.jsonl"):
        read_predictions(tmp_path)
    with pytest.raises(UsageError, match="must be text or a Path, got None"):
        read_predictions(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"columns": {"confidance": "x"}},
            "unknown role 'confidance' (did you mean 'confidence'?)",
        ),
        ({"columns": ["x"]}, "columns maps a role to the name of its column"),
        ({"columns": {"label": ["x"]}}, "label must be the name of a column, got ['x']"),
        (
            {"columns": {"id": "Confidence"}},
            "no column is called 'Confidence', which columns names for id",
        ),
        ({"columns": {"id": "labels"}}, "no column is called 'labels', which columns names for id"),
        ({"columns": {"probabilities": "q_*"}}, "no column like 'q_*'"),
        ({"task": "mmlu"}, "task does not go with a table"),
        (
            {"classes": ["a", "b", "c"], "columns": {"probabilities": "p_*"}},
            "classes names 3 classes, and there are 2 probabilities",
        ),
        (
            {"classes": ["b", "c"], "columns": {"probabilities": ["p_a", "p_b"]}},
            "column 'label': 'a' is none of the classes 'b', 'c'",
        ),
        ({"probe": "a\nb"}, "printable name"),
        ({"model": ""}, "model must be the model's name"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """With what is known in their place."""
    path = written(tmp_path, "p.csv", "confidence,correct,p_a,p_b,label\n.5,1,.5,.5,a\n")
    with pytest.raises((PredictionsError, UsageError)) as caught:
        read_predictions(path, **arguments)
    assert message in str(caught.value)


def test_two_answers_may_have_confidences_below_a_half(tmp_path: Path) -> None:
    """As stated ones have; what is no probability of one class is read."""
    rows = "".join(f"{p},{answer},yes\n" for p in (0.3, 0.6) for answer in ("yes", "no") * 5)
    path = written(tmp_path, "p.csv", f"confidence,prediction,label\n{rows}")
    assert read_predictions(path).correct.sum() == 10


def test_answers_that_differ_in_an_invisible_character_are_two(tmp_path: Path) -> None:
    """Text is compared as it stands, also with a character of value 0 at its end."""
    rows = [{"confidence": 0.8, "prediction": f"a{end}", "label": "a"} for end in ("", "\0") * 6]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert read_predictions(file).correct.tolist() == [True, False] * 6


def test_what_counts_can_be_chosen(tmp_path: Path) -> None:
    """Of a file with both, where they do not agree."""
    path = written(tmp_path, "p.csv", "confidence,correct,prob_a,prob_b,label\n.9,0,.5,.5,a\n")
    plain = read_predictions(path, columns={"confidence": "confidence"})
    assert (plain.confidence.tolist(), plain.probabilities) == ([0.9], None)
    table = read_predictions(path, columns={"probabilities": "prob_*"})
    assert (table.confidence.tolist(), table.classes) == ([0.5], ("a", "b"))


@settings(max_examples=40)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True
    ),
    delimiter=st.sampled_from(",;\t|"),
    data=st.data(),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], delimiter: str, data: st.DataObject
) -> None:
    """Python's writer of CSV and JSON loses nothing on the way; line breaks are those of Unix."""
    ids = list(dict.fromkeys(re.sub(r"\r\n?|\ufeff", "\n", one) for one in ids))
    shares = st.lists(st.floats(0, 1), min_size=len(ids), max_size=len(ids))
    confidence = data.draw(shares)
    correct = [share > 0.5 for share in data.draw(shares)]
    expected = Predictions.from_confidence(confidence, correct, item_ids=ids, probe="p")
    path = tmp_path_factory.mktemp("written") / "p.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["confidence", "correct", "id"])
        rows.writerows(zip(confidence, correct, ids, strict=True))
    assert same(read_predictions(path), expected)
    with path.with_suffix(".jsonl").open("w", encoding="utf-8") as file:
        for share, right, one in zip(confidence, correct, ids, strict=True):
            row = {"id": one, "confidence": share, "correct": right}
            file.write(json.dumps(row, ensure_ascii=data.draw(st.booleans())) + "\n")
    assert same(read_predictions(path.with_suffix(".jsonl")), expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """It is not opened: it would wait for a writer."""
    os.mkfifo(tmp_path / "p.csv")
    with pytest.raises(PredictionsError, match=r"p\.csv: cannot be read \(it is a pipe\)"):
        read_predictions(tmp_path / "p.csv")


def test_a_long_text_is_read(tmp_path: Path) -> None:
    """Longer than Python's reader of CSV takes by itself."""
    prompt = "word " * 40_000
    path = written(tmp_path, "p.csv", f"confidence,correct,text\n.5,1,{prompt}\n")
    (found,) = read_all(path)
    assert found.texts is not None
    assert found.texts[0].prompt == prompt


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, the command that installs it."""
    monkeypatch.setattr("pytest_calibration.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "pytest-calibration\[parquet\]"'):
        read_predictions(written(tmp_path, "p.parquet", "PAR1"))


def test_a_dump_is_read(tmp_path: Path) -> None:
    """With the probe that it names; a name given by the caller wins."""
    from pytest_calibration.reports.dump import write_dump

    path = write_dump(tmp_path, TABLE)
    assert kind_of(path) == "dump"
    found = read_predictions(path)
    assert (found.probe, found.confidence.tolist()) == ("p", TABLE.confidence.tolist())
    assert found.item_ids.tolist() == TABLE.item_ids.tolist()
    assert read_predictions(path, probe="q", model="m").probe == "q"
    # A table with such columns of its own is none.
    row = {"probe": "x", "id": "q1", "confidence": 0.5, "correct": True}
    assert kind_of(written(tmp_path, "t.jsonl", json.dumps(row))) == "table"


@pytest.mark.data
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_parquet_is_read(tmp_path: Path, library: str) -> None:
    """As another program wrote it; a damaged file is refused."""
    pytest.importorskip("pyarrow")
    frames = pytest.importorskip(library)
    path = tmp_path / "p.parquet"
    frame = frames.DataFrame(
        {"prob_cat": [0.3, 0.5], "prob_dog": [0.7, 0.5], "label": ["dog", "dog"], "other": [1, 2]}
    )
    frame.to_parquet(path) if library == "pandas" else frame.write_parquet(path)
    assert kind_of(path) == "table"
    assert same(read_predictions(path), TABLE)
    lists = frames.DataFrame({"probabilities": [[0.3, 0.7], [0.5, 0.5]], "label": [1, 1]})
    lists.to_parquet(path) if library == "pandas" else lists.write_parquet(path)
    assert same(read_predictions(path), TABLE)
    other = frames.DataFrame({"prob_a": [0.5] * 2, "prob_b": [0.5] * 2, "label": ["a", "d"]})
    other.to_parquet(path) if library == "pandas" else other.write_parquet(path)
    with pytest.raises(PredictionsError, match=r"row 1 \(from 0\), column 'label': 'd' is none"):
        read_predictions(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PredictionsError, match="cannot be read as Parquet"):
        read_predictions(path)
