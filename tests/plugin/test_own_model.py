"""What a project's own fixture ``calibration_model`` may give, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from toy_backend import LOG

from pytest_calibration.models.backends import BACKENDS

if TYPE_CHECKING:
    from user_project import Project

ONE = """
def test_it(calibration):
    calibration.run("facts", limit=60)
    calibration.run("multiple_choice", limit=60)
    print("MODEL", calibration.model.name)
"""


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the toy backend, as long as the test lasts."""
    monkeypatch.setitem(BACKENDS, "toy", "toy_backend")


def bring(project: Project, value: str, test: str = ONE, scope: str = "session") -> None:
    """Write a project whose fixture returns this expression."""
    project.pytester.makeconftest(
        f"""
import functools
import pathlib
import pytest
from fakes import FakeModel

class Named:
    name = "named"

class Half(FakeModel):
    def option_logprobs(self, prompts, options):
        return self.tokenizer

def score(prompts):
    return prompts

@pytest.fixture(scope="{scope}")
def calibration_model():
    return {value}
"""
    )
    project.write("beliefs", "beliefs")
    project.write("tests/test_project.py", test)


@pytest.mark.parametrize(
    ("value", "attribute", "shown"),
    [
        ("score", "next_token", "a function of texts (score)"),
        ("functools.partial(score)", "next_token", "a function of texts (score)"),
        ("FakeModel", "name", "the class FakeModel"),
        ("None", "name", "None"),
        ("{'model': 1}", "name", "an object of type dict"),
        ("7", "name", "an object of type int"),
        ("Named()", "next_token", "an object of type Named"),
        ("object()", "name", "an object of type object"),
    ],
)
def test_what_is_no_model_is_refused(
    project: Project, value: str, attribute: str, shown: str
) -> None:
    """One sentence says what was asked for, what it was asked of, and what a model offers."""
    bring(project, value)
    result = project.run()
    assert result.ret == 1
    text = "\n".join(result.outlines)
    assert (
        f"probe 'facts' asks calibration_model for `{attribute}`, which {shown} does not have: a "
        "model offers `name`, `fingerprint`," in text
    )
    assert "AttributeError" not in text


def test_an_error_of_the_models_own_code_is_shown_as_it_is(project: Project) -> None:
    """What the model's code looks for in vain is for its author to see, with the line."""
    bring(project, "Half()", "def test_it(calibration):\n    calibration.run('multiple_choice')\n")
    result = project.run()
    result.stdout.fnmatch_lines(["*AttributeError: 'Half' object has no attribute 'tokenizer'*"])


@pytest.mark.parametrize("value", ["(1, 2)", "[FakeModel(), 3]", "(FakeModel(), score)"])
def test_a_pair_of_something_else_is_refused(project: Project, value: str) -> None:
    """A pair is a model and a tokenizer of transformers."""
    bring(project, value)
    project.run().stdout.fnmatch_lines(
        ["*for `name`, which an object of type * does not have: a model offers*"]
    )


@pytest.mark.parametrize("scope", ["session", "function"])
@pytest.mark.parametrize("value", ["'toy:beliefs'", "pathlib.PurePosixPath('toy:beliefs')"])
def test_a_spec_is_loaded(project: Project, value: str, scope: str) -> None:
    """A text or path is a spec, loaded as ``calibration.yaml`` says, once for all probes."""
    bring(project, value, scope=scope)
    project.write("calibration.yaml", "model: {percent: 10}\n")
    LOG.clear()
    result = project.run("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*MODEL toy-beliefs*"])
    assert [entry.split()[0] for entry in LOG] == ["load", "close"]


def test_a_spec_that_names_nothing_is_one_sentence(project: Project) -> None:
    """A path that is not there is told as for ``--calibration-model``."""
    bring(project, "pathlib.Path('gone/away/model')")
    project.run().stdout.fnmatch_lines(
        ["*'gone/away/model': there is no such directory; '.' holds 'runs', 'tests'.*"]
    )


def test_a_model_for_a_probe_of_ones_own_may_be_anything(project: Project) -> None:
    """A probe that calls a function gets it."""
    test = """
from pytest_calibration import Predictions, assert_ece_below

class Mine:
    name = kind = "mine"
    def run(self, model, limit=None):
        return Predictions.from_confidence(model([0.5] * 4), [1, 0] * 2, probe="mine")

def test_it(calibration):
    assert_ece_below(calibration.run(Mine()), 0.2)
"""
    bring(project, "score", test)
    project.run().assert_outcomes(passed=1)


def test_an_own_kind_and_a_function_in_two_workers(project: Project) -> None:
    """Each worker finds the module beside ``calibration.yaml``, and asks the function."""
    bring(project, "chances")
    conftest = project.path / "conftest.py"
    chances = "\ndef chances(texts):\n    return [[0.6, 0.4] for _ in texts]\n"
    conftest.write_text(conftest.read_text("utf-8") + chances, "utf-8")
    project.write(
        "riddles.py",
        "from pytest_calibration import Predictions\n\n"
        "class Riddles:\n"
        "    kind = 'riddles'\n"
        "    def __init__(self, name, most: int): self.name, self.most = name, most\n"
        "    def run(self, model, limit=None):\n"
        "        table = model.class_probabilities(['a'] * self.most)\n"
        "        right = [i % 5 > 2 for i in range(self.most)]\n"
        "        return Predictions.from_probabilities(table, right, probe=self.name)\n",
    )
    entry = "{kind: riddles:Riddles, most: 200}"
    project.write("calibration.yaml", f"probes: {{one: {entry}, two: {entry}}}\n")
    project.write(
        "tests/test_project.py",
        "from pytest_calibration import assert_ece_below\n"
        "def test_it(calibration, calibration_probe):\n"
        "    assert_ece_below(calibration.run(calibration_probe), 0.01)\n",
    )
    project.isolated = True
    result = project.run("-n", "2")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 passed"])
