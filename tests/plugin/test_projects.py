"""Which ``calibration.yaml`` counts: the nearest upward from the test, wherever pytest started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from user_project import CONFTEST, GATE

if TYPE_CHECKING:
    from user_project import Project

TOYS = "import toy_backend\ntoy_backend.register()\n"
ROW = '{"prompt": "Up is not", "answer": "down"}\n'


def run_in(project: Project, folder: str, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own, started in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.path / folder)
        return project.pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)


@pytest.fixture
def nested(project: Project) -> Project:
    """A repository without an ini file, in a folder of its own: rootdir is what pytest guesses."""
    (project.path / "tox.ini").unlink()
    (project.path / "tests/test_project.py").unlink()
    project.write("work/repo/calibration.yaml", "probes: {mine: {kind: facts, path: p.jsonl}}\n")
    project.write("work/repo/p.jsonl", ROW * 60)
    project.write("work/repo/tests/conftest.py", CONFTEST)
    project.write("work/repo/tests/test_project.py", GATE)
    return project


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
@pytest.mark.parametrize("started", ["work/repo", "work/repo/tests", "work", "."])
def test_the_file_counts_wherever_pytest_starts(
    nested: Project, started: str, workers: list[str]
) -> None:
    """In the repository, below or above it: the same probes, and the run says whose they are."""
    result = run_in(nested, started, "--calibration-model=m/base", "--calibration-record", *workers)
    result.assert_outcomes(passed=1)
    stored = (nested.path / "work/repo/tests/calibration_baselines").glob("*.yaml")
    assert [path.name for path in stored] == ["mine.yaml"]
    file = nested.path / "work/repo/calibration.yaml"
    line = next(x for x in result.outlines if x.startswith("configuration: "))
    said = line.removeprefix("configuration: ")
    assert (nested.path / started / said).resolve() == file.resolve()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_run_without_a_file_says_so(project: Project, workers: list[str]) -> None:
    """Built-in probes because no file was found are named as such; ``-q`` leaves the line out."""
    flags = ["--calibration-probe=facts", "--calibration-model=runs/base", "--calibration-record"]
    result = project.run(*flags, *workers)
    result.stdout.fnmatch_lines(["configuration: none: built-in probes"])
    project.run(*flags, *workers, "-q").stdout.no_fnmatch_line("configuration:*")


@pytest.mark.parametrize(
    "name", ["calibration.yml", "calibrations.yaml", ".calibration.yaml", "CALIBRATION.YML"]
)
@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_file_of_almost_the_right_name_is_told(
    project: Project, name: str, workers: list[str]
) -> None:
    """Its probes would silently not be run, and the built-in ones in their place."""
    project.write(name, "probes: {mine: {kind: facts}}\n")
    line = f"configuration: none: built-in probes ({name} is not read; call it calibration.yaml)"
    result = project.facts("base", "--calibration-record", *workers)
    assert line in result.outlines
    assert line in project.run("--calibration-list").outlines
    project.write("calibration.yaml", "probes: {mine: {kind: facts}}\n")
    assert "is not read" not in project.run("--calibration-list").stdout.str()


def test_a_file_without_probes_says_so(recorded: Project) -> None:
    """The nearest file is the only one that counts; where it names no probe, the line says so."""
    recorded.write("calibration.yaml", "probes: {mine: {kind: facts}}\n")
    recorded.write("tests/calibration.yaml", "tolerance: 0.03\n")
    result = recorded.facts("base")
    result.stdout.fnmatch_lines(["configuration: tests/calibration.yaml (built-in probes)"])


def test_nothing_is_said_where_nothing_was_read(project: Project) -> None:
    """Assertions on arrays need no probe: only a file that says how strict they are is named."""
    project.write(
        "tests/test_project.py",
        """
from pytest_calibration import assert_ece_below

def test_arrays():
    assert_ece_below(([[0.5, 0.5], [0.5, 0.5]], [0, 1]), 0.4)
""",
    )
    project.run().stdout.no_fnmatch_line("configuration:*")


def test_a_link_that_leads_nowhere_is_an_error(project: Project) -> None:
    """A file that cannot be read is not passed over."""
    (project.path / "calibration.yaml").symlink_to("gone.yaml")
    result = project.run("--calibration-model=runs/base")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*calibration.yaml: cannot be read*"])


def test_a_test_that_lies_elsewhere_takes_the_file_of_rootdir(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tests of an installed package, run by its name, have no file above them."""
    site = tmp_path_factory.mktemp("site")
    (site / "theirs").mkdir()
    (site / "theirs" / "test_them.py").write_text(GATE)
    project.pytester.syspathinsert(site)
    project.write("calibration.yaml", "probes: {mine: {kind: facts}}\n")
    flags = ("--pyargs", "theirs.test_them", "--calibration-model=runs/base", "-p", "conftest")
    result = project.run(*flags, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*test_nothing_got_worse*base-mine*"])


# --- several files in one run --------------------------------------------------------------------


@pytest.fixture
def packages(project: Project) -> Project:
    """Two packages, each with probes and model settings of its own; b overstates its beliefs."""
    project.pytester.makeconftest(TOYS)
    project.write("beliefs", "beliefs")
    (project.path / "tests/test_project.py").unlink()
    for name, percent in (("a", 0), ("b", 60)):
        project.write(
            f"packages/{name}/calibration.yaml",
            f"model: {{percent: {percent}}}\n"
            f"probes: {{{name}-facts: {{kind: facts, limit: 400}}, both: {{kind: facts}}}}\n",
        )
        project.write(f"packages/{name}/tests/test_{name}.py", GATE)
    project.isolated = True
    return project


def stored(project: Project, package: str) -> dict[str, float]:
    """Return the ECE of each baseline of a package."""
    folder = project.path / "packages" / package / "tests" / "calibration_baselines"
    return {p.stem: yaml.safe_load(p.read_text())["metrics"]["ece"] for p in folder.glob("*.yaml")}


@pytest.mark.parametrize(
    "workers",
    [[], ["-n", "2"], ["-n", "2", "--dist", "loadgroup"]],
    ids=["one-process", "two-workers", "loadgroup"],
)
def test_each_package_has_its_own(packages: Project, workers: list[str]) -> None:
    """Probes, model settings, limits and baselines are those of the test's package."""
    flags = ("--calibration-model=toy:beliefs", *workers)
    result = packages.run(*flags, "--calibration-record")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["configuration: packages/a/calibration.yaml, packages/b/calibration.yaml"]
    )
    a, b = stored(packages, "a"), stored(packages, "b")
    assert ({*a}, {*b}) == ({"a-facts", "both"}, {"b-facts", "both"})
    result.stdout.fnmatch_lines(
        ["both on *: a probe of this name in each of packages/a/*, packages/b/*, with other *"]
    )
    result.stdout.no_fnmatch_line("?-facts on *: a probe of this name*")
    # The settings of b make the same answers overconfident.
    assert b["both"] > a["both"] + 0.05
    result = packages.run(*flags)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["toy-beliefs*a-facts*400 *", "toy-beliefs*b-facts*400 *"])


def test_a_package_alone_reads_its_own_file(packages: Project) -> None:
    """Tests of one package run whatever the file of another says."""
    packages.write("packages/b/calibration.yaml", "probs: {}\n")
    result = packages.run("packages/a", "--calibration-model=toy:beliefs", "--calibration-record")
    result.assert_outcomes(passed=2)
    result = packages.run("--calibration-model=toy:beliefs")
    result.stdout.fnmatch_lines(["*packages/b/calibration.yaml: unknown key probs (did you*"])


def test_the_file_that_is_named_counts_for_all(packages: Project) -> None:
    """``--calibration-config`` wins over every file that is found."""
    packages.write("conf.yaml", "probes: {only: {kind: facts}}\n")
    flags = ("--calibration-model=toy:beliefs", "--calibration-config=conf.yaml")
    result = packages.run(*flags, "--calibration-record")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["configuration: conf.yaml"])
    assert ({*stored(packages, "a")}, {*stored(packages, "b")}) == ({"only"}, {"only"})


@pytest.mark.parametrize("started", [".", "packages", "packages/a", "packages/b/tests"])
def test_the_list_names_every_file(packages: Project, started: str) -> None:
    """``--calibration-list`` lists the probes of each file that counts for the tests named."""
    result = run_in(packages, started, "--calibration-list")
    assert result.ret == 0
    lines = [x for x in result.outlines if x.startswith(("configuration:", "* "))]
    both = started in (".", "packages")
    names = ["a", "b"] if both else [started.split("/")[1]]
    assert [x.split()[1].rpartition("/")[2] for x in lines if "configuration" in x] == [
        "calibration.yaml" for _ in names
    ]
    assert [x.split()[1] for x in lines if x[0] == "*"] == [
        probe for name in names for probe in (f"{name}-facts", "both")
    ]


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "two-workers"])
def test_a_probe_of_one_package(packages: Project, workers: list[str]) -> None:
    """A probe that only one package knows runs there; the tests of the others are skipped."""
    flags = ("--calibration-model=toy:beliefs", "--calibration-record", *workers)
    result = packages.run(*flags, "--calibration-probe=a-facts", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*--calibration-probe names none of packages/b/calibration.yaml"]
    )
    result = packages.run(*flags, "--calibration-probe=c-facts")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown probe 'c-facts' (did you mean '?-facts'?)*b-facts*"])


def test_the_parent_is_loaded_as_each_package_says(packages: Project) -> None:
    """A model is never worse than itself: parent and candidate have the settings of the package."""
    result = packages.run(
        "--calibration-model=toy:beliefs",
        "--calibration-parent=toy:beliefs",
        "--calibration-limit=600",
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["4 passed"])


def test_a_test_that_cannot_be_parametrised_gets_no_model_of_another_package(
    packages: Project,
) -> None:
    """A TestCase has the model that is there; one that another package loaded is refused."""
    case = """
import unittest
import pytest
from pytest_calibration import assert_ece_below

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def bring(self, calibration):
        self.calibration = calibration

    def test_it(self):
        assert_ece_below(self.calibration.run("both"), 0.9)
"""
    for name in "ab":
        packages.write(f"packages/{name}/tests/test_{name}.py", case)
    result = packages.run("--calibration-model=toy:beliefs")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*packages/a/calibration.yaml and packages/b/calibration.yaml load the model differently*"]
    )
    packages.run("packages/b", "--calibration-model=toy:beliefs").assert_outcomes(passed=1)
