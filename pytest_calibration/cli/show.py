"""``pytest-calibration show``: what is behind a number, down to single items."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import record_at, whole
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.diagnosis import Diagnosis
    from pytest_calibration.predictions import Predictions
    from pytest_calibration.reports.model import Item, Result, Side, SliceRow

KINDS: Final = "a dump (.jsonl), a stored record (.yaml) or a report (.json)"
WORST: Final = 20
NARROWEST, USUAL, WIDEST = 54, 100, 120
# What a reader looks at first; all metrics are in the output of --json.
METRICS: Final = (
    "ece",
    "equal_mass_ece",
    "smooth_ece",
    "signed_gap",
    "accuracy",
    "mean_confidence",
    "brier",
    "nll",
    "auroc",
)
NO_TEXT: Final = {
    "dump": "(this dump holds no text of the items, only their ids)",
    "record": "(a record holds no text of the items, only their ids; pytest --calibration-dump=DIR "
    "writes it)",
    "report": "(this report holds no text of the items, only their ids)",
}
SLICES_NAMED: Final = 8
NAME: Final = 60


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "show",
        help="show what is behind a number: bins, slices, diagnosis, worst items",
        description="Show a dump of items, a stored record or a report: metrics, bins, slices and "
        "diagnosis, and the wrong answers that the model was surest of.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a dump (.jsonl), a stored record (.yaml) or a report (.json)",
    )
    parser.add_argument(
        "--worst",
        type=whole(0),
        default=WORST,
        metavar="N",
        help=f"how many items to show (default: {WORST})",
    )
    parser.add_argument("--slice", metavar="NAME", help="only the items of one slice")
    parser.add_argument(
        "--correct",
        action="store_true",
        help="the right answers that the model was least sure of, instead of the wrong ones",
    )
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what a file holds.

    Raises:
        UsageError: no file of a known kind, or a slice that it does not name.
        CalibrationError: the file cannot be read as what its ending says.
    """
    if options.file is None:
        raise UsageError(f"show needs a file: {KINDS}.")
    kind, shown = _shown(options)
    if options.json:
        from pytest_calibration.reports.model import plain

        tree = {"file": options.file, "kind": kind, "shown": plain(shown)}
        print(json.dumps(tree, indent=2, allow_nan=False))
        return 0
    for number, one in enumerate(shown):
        if number:
            print("\n")
        for line in _lines(one, kind, options):
            print(line)
    if not shown:
        from pytest_calibration.text.visible import visible

        print(f"the report {visible(options.file)} holds no verdict")
    return 0


@dataclass(frozen=True)
class Shown:
    """One model on one probe, as it is printed.

    Attributes:
        probe: name of the probe.
        model: name of the model; empty where it has none.
        unit: what an item is.
        measured: number of items that were measured; a record of tokens holds fewer.
        test: node id of the test, in a report.
        headline: the verdict in one line, in a report.
        side: the metrics and bins of the items; None where a report was written without.
        diagnosis: the diagnosis.
        slices: the slices, the surest to be off (or to have moved) first.
        slices_left_out: how many more there are.
        eligible: number of wrong answers, or of right ones where these are asked for.
        items: the foremost of them.
    """

    probe: str
    model: str
    unit: str
    measured: int
    test: str
    headline: str
    side: Side | None
    diagnosis: Diagnosis | None
    slices: tuple[SliceRow, ...]
    slices_left_out: int
    eligible: int
    items: tuple[Item, ...]


def _shown(options: argparse.Namespace) -> tuple[str, list[Shown]]:
    """Read the file that was named; return its kind, and what there is to print."""
    from pytest_calibration.reports.dump import ENDING, read_both

    path = Path(options.file)
    ending = path.suffix.lower()
    if ending == ENDING:
        found, before = read_both(path)
        return "dump", [_of_items(options, "dump", found, before, found.n)]
    if ending in (".yaml", ".yml"):
        record = record_at(options.file)
        return "record", [_of_items(options, "record", record.predictions, None, record.n)]
    if ending == ".json":
        from pytest_calibration.reports.json_report import read_json

        if options.correct or options.slice is not None:
            raise UsageError(
                f"{options.file}: --correct and --slice need all items, and a report holds the "
                "worst alone; pytest --calibration-dump=DIR writes all."
            )
        return "report", [_of_result(result, options.worst) for result in read_json(path).results]
    raise UsageError(f"{options.file}: show reads {KINDS}.")


def _of_items(
    options: argparse.Namespace,
    kind: str,
    found: Predictions,
    before: Predictions | None,
    measured: int,
) -> Shown:
    """Measure what is printed of some items."""
    from pytest_calibration.diagnosis import diagnose
    from pytest_calibration.metrics import DEFAULT_BINS
    from pytest_calibration.reports.model import Side, slice_rows

    if options.slice is not None:
        found, before = _of_slice(options, kind, found, before)
        measured = found.n
    return Shown(
        probe=found.probe,
        model=found.signature.soft.get("model", ""),
        unit=found.unit,
        measured=measured,
        test="",
        headline="",
        side=Side.of(found, DEFAULT_BINS),
        diagnosis=diagnose(found, before),
        # The groups of a record have lost their names.
        slices=slice_rows(found, before) if kind == "dump" else (),
        slices_left_out=0,
        eligible=int((found.correct == options.correct).sum()),
        items=_items(found, before, options),
    )


def _of_result(result: Result, most: int) -> Shown:
    """Return what a report holds of one verdict."""
    detail = result.detail
    side = None if detail is None else detail.candidate
    return Shown(
        probe=result.probe,
        model=result.model,
        unit=result.unit,
        measured=result.n,
        test=result.test,
        headline=result.headline,
        side=side,
        diagnosis=None if detail is None else detail.diagnosis,
        slices=() if detail is None else detail.slices,
        slices_left_out=0 if detail is None else detail.slices_left_out,
        eligible=0 if side is None else sum(bar.wrong for bar in side.histogram),
        items=() if detail is None else detail.worst[:most],
    )


def _of_slice(
    options: argparse.Namespace, kind: str, found: Predictions, before: Predictions | None
) -> tuple[Predictions, Predictions | None]:
    """Return the items of one slice; where there are no slices, groups stand for them."""
    names = found.groups if found.slices is None else found.slices
    if kind != "dump" or names is None:
        raise UsageError(f"{options.file}: names no slices, so --slice finds nothing in it.")
    inside = names == options.slice
    if not inside.any():
        known = sorted(set(names.tolist()))
        named = ", ".join(_quoted(name) for name in known[:SLICES_NAMED])
        more = f" and {len(known) - SLICES_NAMED:,} more" if len(known) > SLICES_NAMED else ""
        raise UsageError(
            f"{options.file}: has no slice {_quoted(options.slice)}; there are {named}{more}."
        )
    return found.take(inside), None if before is None else before.take(inside)


def _quoted(name: str) -> str:
    return repr(name if len(name) <= NAME else f"{name[: NAME - 3]}...")


def _items(
    predictions: Predictions, before: Predictions | None, options: argparse.Namespace
) -> tuple[Item, ...]:
    """Return the surest wrong answers, or the least sure right ones; ties by id."""
    import numpy as np

    from pytest_calibration.reports.model import item_of, worst_items

    if not options.correct:
        return worst_items(predictions, before, most=options.worst, item_text=True)
    right = np.flatnonzero(predictions.correct)
    order = np.lexsort((predictions.item_ids[right], predictions.confidence[right]))
    first = right[order[: options.worst]]
    return tuple(item_of(predictions, int(i), before) for i in first)


# --- output --------------------------------------------------------------------------------------


def _lines(shown: Shown, kind: str, options: argparse.Namespace) -> Iterator[str]:
    from pytest_calibration.reports.terminal import reliability_diagram, slices_table
    from pytest_calibration.text.layout import wrapped
    from pytest_calibration.text.visible import visible

    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((USUAL, 24)).columns))
    subject = f"{shown.probe} on {shown.model}" if shown.model else shown.probe
    yield from wrapped(f"{subject}: {_counted(shown)}", width, further="  ")
    # In one line, however long: a path is there to be copied.
    yield f"  from the {kind} {visible(options.file)}"
    if shown.test:
        yield f"  test {visible(shown.test)}"
    yield from wrapped(shown.headline, width, "  ", "    ")
    if shown.diagnosis is not None:
        yield from wrapped(shown.diagnosis.paragraph, width, "  ")
    if shown.side is None:
        yield "  nothing more is stored of this verdict"
        return
    yield ""
    yield from _metrics(shown.side, width)
    yield ""
    unicode = (getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf")
    yield from reliability_diagram(shown.side.reliability, width=width, unicode=unicode)
    table = [*slices_table(shown.slices, left_out=shown.slices_left_out)]
    if table:
        yield ""
        yield from table
    if options.worst:
        yield ""
        yield from _evidence(shown, kind, options.correct, width)


def _counted(shown: Shown) -> str:
    """Say how many items there are, in how many groups, and of how many they are a sample."""
    n = shown.measured if shown.side is None else shown.side.n
    units = n if shown.side is None else shown.side.units
    told = f"{n:,} {shown.unit}{'s' * (n != 1)}"
    if n < shown.measured:
        told = f"{n:,} of {shown.measured:,} {shown.unit}s"
    return told if units == n else f"{told} in {units:,} group{'s' * (units != 1)}"


def _metrics(side: Side, width: int) -> Iterator[str]:
    """Yield the foremost metrics, each with its interval, and the noise floor where it has one."""
    numbers = [side.metrics[name] for name in METRICS if name in side.metrics]
    widest = max(len("metric"), *(len(number.label) for number in numbers))
    has_room = width >= widest + 44
    yield f"{'metric':<{widest}}{'value':>9}  {'95 % interval':<16}{'  noise floor' * has_room}"
    for number in numbers:
        sign = "+" if number.metric == "signed_gap" else ""
        value, low, high = (f"{x:{sign}z.3f}" for x in (number.value, number.low, number.high))
        interval = f"[{low}, {high}]"
        floor = "" if number.noise_floor is None else f"{number.noise_floor:>13.3f}"
        yield f"{number.label:<{widest}}{value:>9}  {interval:<16}{floor * has_room}".rstrip()


def _evidence(shown: Shown, kind: str, correct: bool, width: int) -> Iterator[str]:
    """Yield the items asked for."""
    from pytest_calibration.reports.item_lines import item_lines
    from pytest_calibration.text.layout import wrapped

    if not shown.items:
        yield f"no answer is {'right' if correct else 'wrong'}"
        return
    what = "right answers it was least sure of" if correct else "wrong answers it was surest of"
    yield f"{what}, {len(shown.items):,} of {shown.eligible:,}:"
    if not any(item.text for item in shown.items):
        yield from wrapped(NO_TEXT[kind], width)
    digits = len(str(len(shown.items)))
    for number, item in enumerate(shown.items, start=1):
        lead = f"{number:>{digits}}. "
        for i, line in enumerate(item_lines(item, width=width - len(lead))):
            yield f"{' ' * len(lead) if i else lead}{line}"
