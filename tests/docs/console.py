"""The commands of a page, typed one after the other in this process."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat

import pytest
from documents import ROOT, Block, agrees, typed

from pytest_calibration.cli import main

StandIn = Callable[[list[str]], object]


class Console:
    """Runs what a block shows behind ``$``, and compares what it prints with what is shown.

    ``pytest`` and ``pytest-calibration`` run here. Of ``pip install`` the extras are looked up.
    What else a page types has a stand-in.
    """

    def __init__(self, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
        self.pytester = pytester
        self.capsys = capsys

    def type(
        self,
        block: Block,
        codes: Sequence[int] = (),
        *,
        add: Sequence[str] = (),
        numbers: bool = True,
        process: bool = False,
        instead: Mapping[str, StandIn] | None = None,
    ) -> list[str]:
        """Type all commands of a block; return what each printed.

        Args:
            block: of a console.
            codes: the exit codes of the commands in their order; 0 where none is left.
            add: further arguments of pytest, which the page does not show.
            numbers: whether the numbers that are shown must be those that are printed.
            process: whether pytest runs in a process of its own, as where libraries are loaded
                that can be loaded once.
            instead: by program, what is called with its arguments in place of it.
        """
        said = []
        expected: Iterator[int] = chain(codes, repeat(0))
        for words, shown in typed(block):
            program, *arguments = [word for word in words if not re.match(r"[A-Z_]+=", word)]
            if program in (instead or {}):
                self.capsys.readouterr()
                (instead or {})[program](arguments)
                code, text = 0, self.capsys.readouterr().out
            elif program == "pip":
                _known_extras(arguments)
                code, text = 0, ""
            else:
                code, text = self._run(program, arguments, add, process)
            assert code == next(expected), (words, text)
            assert agrees(shown, text, numbers=numbers), f"{words} does not show\n{shown}\n{text}"
            said.append(text)
        return said

    def _run(
        self, program: str, arguments: list[str], add: Sequence[str], process: bool
    ) -> tuple[int, str]:
        if program == "pytest":
            runs = (self.pytester.runpytest_inprocess, self.pytester.runpytest_subprocess)
            result = runs[process](*arguments, *add)
            self.capsys.readouterr()
            return int(result.ret), f"{result.stdout}\n{result.stderr}"
        assert program == "pytest-calibration", program
        self.capsys.readouterr()
        code = main(arguments)
        out, err = self.capsys.readouterr()
        return code, out + err


def _known_extras(arguments: list[str]) -> None:
    """Check that each extra that is installed is one of this package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert arguments[0] == "install"
    for one in arguments[1:]:
        extras = re.fullmatch(rf"{project['name']}(?:\[([\w,-]+)\])?", one)
        assert extras, one
        assert not {*(extras[1] or "").split(",")} - {"", *project["optional-dependencies"]}, one
