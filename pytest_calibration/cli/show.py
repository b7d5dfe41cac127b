"""``pytest-calibration show``: metrics, bins, slices, diagnosis and worst items of a file."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_calibration.cli.arguments import (
    KINDS,
    add_file_choices,
    file_choices,
    is_report,
    items_at,
    pair_at,
    whole,
)
from pytest_calibration.cli.report_changes import change_lines, read_changes
from pytest_calibration.errors import UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.predictions import BoolArray, Predictions
    from pytest_calibration.reports.model import Detail, Item, Result, Side

WORST: Final = 20
NARROWEST, USUAL, WIDEST = 54, 100, 120
# The metrics that are printed; --json holds all.
METRICS: Final = (
    *("ece", "equal_mass_ece", "smooth_ece", "signed_gap", "accuracy", "mean_confidence"),
    *("brier", "nll", "auroc"),
)
NO_TEXT: Final = {
    "file": "(this file holds no text of the items)",
    "dump": "(this dump holds no text of the items, only their ids)",
    "record": "(a record holds no text of the items, only their ids; pytest --calibration-dump=DIR "
    "writes it)",
    "report": "(this report holds no text of the items, only their ids)",
}
SLICES_NAMED: Final = 8
NAME: Final = 60
_NOT_BOTH: Final = (
    "{} cannot be shown against {}: a report is compared with a report, and a dump or record with "
    "a dump or record."
)
_NO_ITEMS: Final = (
    "{}: --correct and --slice need all items, and a report holds the worst alone; pytest "
    "--calibration-dump=DIR writes all."
)
# Columns of the name of a metric with its binning, which a report brings.
LABEL: Final = 48


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "show",
        help="show what is behind a number: bins, slices, diagnosis, worst items",
        description="Show a dump of items, a stored record or a report: metrics, bins, slices and "
        "diagnosis, and the most confident wrong answers.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help=KINDS)
    parser.add_argument(
        "--worst",
        type=whole(0),
        default=WORST,
        metavar="N",
        help=f"how many items to show (default: {WORST})",
    )
    parser.add_argument("--slice", metavar="NAME", help="only the items of one slice")
    parser.add_argument(
        "--against",
        metavar="OLD",
        help="an earlier file on the same items: what turned wrong since, and what moved",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--correct",
        action="store_true",
        help="the least confident correct answers, instead of wrong ones",
    )
    which.add_argument(
        "--wrong",
        action="store_true",
        help="the most confident wrong answers, also where a baseline tells which turned wrong",
    )
    add_file_choices(parser)
    parser.add_argument("--json", action="store_true", help="print everything for a program")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what a file holds.

    Raises:
        UsageError: no file of a known kind, a slice that it does not name, or an earlier file that
            it cannot be compared with.
        CalibrationError: the file cannot be read as what its ending says.
    """
    from pytest_calibration.text.visible import visible

    if options.file is None:
        raise UsageError(f"show needs a file: {KINDS}.")
    sides = [file for file in (options.file, options.against) if file is not None]
    reports = [is_report(side, options) for side in sides]
    if len(reports) == 2 and all(reports):
        return _show_changes(options)
    kind, parts = _parts(options)
    if options.json:
        from pytest_calibration.reports.model import plain

        against = {"against": options.against} if options.against is not None else {}
        tree = {"file": options.file, **against, "kind": kind, "shown": plain(parts)}
        print(json.dumps(tree, indent=2, allow_nan=False))
        return 0
    for number, part in enumerate(parts):
        print("\n\n" * bool(number) + "\n".join(_lines(part, kind, options)))
    if not parts:
        print(f"the report {visible(options.file)} holds no verdict")
    return 0


def _show_changes(options: argparse.Namespace) -> int:
    """Print what turned between two reports."""
    from pytest_calibration.text.visible import visible

    if options.correct or options.slice is not None:
        raise UsageError(_NO_ITEMS.format(options.file))
    found = read_changes(options.file, options.against)
    if options.json:
        tree = {"file": options.file, "against": options.against, "kind": "report"}
        changed = [change.plain() for change in found]
        print(json.dumps({**tree, "changes": changed}, indent=2, allow_nan=False))
        return 0
    print(f"the report {visible(options.file)}\n  against {visible(options.against)}\n")
    print("\n".join(change_lines(found)))
    return 0


@dataclass(frozen=True)
class Part:
    """One model on one probe, as it is printed.

    Attributes:
        probe: name of the probe.
        model: name of the model; empty where it has none.
        unit: what an item is.
        measured: number of items that were measured; a record of tokens holds fewer.
        test: node id of the test, in a report.
        headline: the verdict in one line, in a report.
        eligible: number of wrong answers, or of correct ones where these are asked for.
        detail: the measurements; None where a report was written without.
    """

    probe: str
    model: str
    unit: str
    measured: int
    test: str
    headline: str
    eligible: int
    detail: Detail | None


def _parts(options: argparse.Namespace) -> tuple[str, list[Part]]:
    """Read the file; return its kind, and what there is to print."""
    from pytest_calibration.reports.json_report import read_json

    path = Path(options.file)
    if not is_report(options.file, options):
        choices = file_choices(options)
        kind, predictions, before, measured = items_at(options.file, None, choices)
        if options.against is not None:
            predictions, before = _items_of_both(options)
        return kind, [_of_items(options, kind, predictions, before, measured)]
    if options.against is not None:
        raise UsageError(_NOT_BOTH.format(options.file, options.against))
    if options.correct or options.slice is not None:
        raise UsageError(_NO_ITEMS.format(options.file))
    return "report", [_of_result(result, options.worst) for result in read_json(path).results]


def _items_of_both(options: argparse.Namespace) -> tuple[Predictions, Predictions]:
    """Read both files; return the items of the later one, and those of the earlier that it has."""
    from pytest_calibration.diagnosis.change import shared_items

    if is_report(options.against, options):
        raise UsageError(_NOT_BOTH.format(options.file, options.against))
    predictions, earlier = pair_at(options.file, options.against, file_choices(options))
    shared = shared_items(predictions, earlier)
    if shared is None:
        raise UsageError(
            f"{options.against}: has no item of {options.file} (probe {predictions.probe!r} there, "
            f"{earlier.probe!r} here); name a dump or record of the same probe."
        )
    return predictions, shared[1]


def _of_items(
    options: argparse.Namespace,
    kind: str,
    predictions: Predictions,
    before: Predictions | None,
    measured: int,
) -> Part:
    """Measure the items of a dump or a record."""
    from pytest_calibration.diagnosis import diagnose
    from pytest_calibration.diagnosis.change import shared_items
    from pytest_calibration.metrics import DEFAULT_BINS
    from pytest_calibration.reports.model import Detail, Side, slice_rows, turned_of

    if options.slice is not None:
        predictions = predictions.take(_in_slice(options, kind, predictions))
        measured = predictions.n
    both = None if before is None else shared_items(predictions, before)
    old = None if both is None else both[1]
    # A baseline may lack some of the items, which then have nothing to be compared with.
    compared = predictions if both is None else both[0]
    turned = None
    if both is not None and not (options.correct or options.wrong):
        turned = turned_of(*both, most=options.worst, item_text=True)
    detail = Detail(
        candidate=Side.of(predictions, DEFAULT_BINS),
        baseline=None if old is None else Side.of(old, DEFAULT_BINS),
        # A record keeps groups, but not their names.
        slices=slice_rows(compared, old) if kind != "record" else (),
        slices_left_out=0,
        worst=_items(predictions, old if compared.n == predictions.n else None, options),
        diagnosis=diagnose(predictions, old),
        past=(),
        turned=turned,
    )
    eligible = int((predictions.correct == options.correct).sum())
    model = predictions.signature.soft.get("model", "")
    return Part(predictions.probe, model, predictions.unit, measured, "", "", eligible, detail)


def _of_result(r: Result, most: int) -> Part:
    """Return what a report holds of one verdict."""
    detail = None if r.detail is None else _cut(r.detail, most)
    eligible = 0 if detail is None else sum(bar.wrong for bar in detail.candidate.histogram)
    return Part(r.probe, r.model, r.unit, r.n, r.test, r.headline, eligible, detail)


def _cut(detail: Detail, most: int) -> Detail:
    """Return what a report holds of a verdict, with at most so many items of each kind."""
    turned = detail.turned and replace(detail.turned, items=detail.turned.items[:most])
    return replace(detail, worst=detail.worst[:most], turned=turned)


def _in_slice(options: argparse.Namespace, kind: str, predictions: Predictions) -> BoolArray:
    """Return which items are in the slice asked for; groups count where there are no slices."""
    names = predictions.groups if predictions.slices is None else predictions.slices
    if kind == "record" or names is None:
        raise UsageError(f"{options.file}: names no slices, so --slice finds nothing in it.")
    inside: BoolArray = names == options.slice
    if not inside.any():
        known = sorted(set(names.tolist()))
        named = ", ".join(_quoted(name) for name in known[:SLICES_NAMED])
        more = f" and {len(known) - SLICES_NAMED:,} more" if len(known) > SLICES_NAMED else ""
        raise UsageError(
            f"{options.file}: has no slice {_quoted(options.slice)}; there are {named}{more}."
        )
    return inside


def _quoted(name: str) -> str:
    return repr(name if len(name) <= NAME else f"{name[: NAME - 3]}...")


def _items(
    predictions: Predictions, before: Predictions | None, options: argparse.Namespace
) -> tuple[Item, ...]:
    """Return the most confident wrong answers, or the least confident correct ones; ties by id."""
    import numpy as np

    from pytest_calibration.reports.model import item_of, worst_items

    if not options.correct:
        return worst_items(predictions, before, most=options.worst, item_text=True)
    correct = np.flatnonzero(predictions.correct)
    order = np.lexsort((predictions.item_ids[correct], predictions.confidence[correct]))
    return tuple(item_of(predictions, int(i), before) for i in correct[order[: options.worst]])


# --- output --------------------------------------------------------------------------------------


def _lines(part: Part, kind: str, options: argparse.Namespace) -> Iterator[str]:
    from pytest_calibration.reports.terminal import reliability_diagram, slices_table
    from pytest_calibration.text.layout import wrapped
    from pytest_calibration.text.visible import visible

    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((USUAL, 24)).columns))
    subject = f"{part.probe} on {part.model}" if part.model else part.probe
    yield from wrapped(f"{subject}: {_counts(part)}", width, further="  ")
    # In one line, however long: a path is there to be copied.
    yield f"  from the {kind} {visible(options.file)}"
    if options.against is not None:
        yield f"  against {visible(options.against)}"
    if part.test:
        yield f"  test {visible(part.test)}"
    yield from wrapped(part.headline, width, "  ", "    ")
    detail = part.detail
    if detail is None:
        yield "  nothing more is stored of this verdict"
        return
    if detail.diagnosis is not None:
        yield from wrapped(detail.diagnosis.paragraph, width, "  ")
    unicode = (getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf")
    blocks = [
        _metrics(detail.candidate, width),
        reliability_diagram(detail.candidate.reliability, width=width, unicode=unicode),
        slices_table(detail.slices, left_out=detail.slices_left_out),
        _item_block(detail, part.eligible, kind, options, width) if options.worst else (),
    ]
    for block in filter(None, map(list, blocks)):
        yield ""
        yield from block


def _counts(part: Part) -> str:
    """Return the number of items, of groups, and of how many items they are a sample."""
    from pytest_calibration.text.numbers import counted

    side = None if part.detail is None else part.detail.candidate
    n = part.measured if side is None else side.n
    items = counted(n, part.unit)
    if n < part.measured:
        items = f"{n:,} of {counted(part.measured, part.unit)}"
    return (
        items if side is None or side.units == n else f"{items} in {counted(side.units, 'group')}"
    )


def _metrics(side: Side, width: int) -> Iterator[str]:
    """Yield the table of metrics, with intervals and noise floors."""
    from pytest_calibration.text.layout import fitted

    numbers = [side.metrics[name] for name in METRICS if name in side.metrics]
    labels = [fitted(f"{n.label}{n.below_zero and f' ({n.below_zero})'}", LABEL) for n in numbers]
    widest = max(map(len, ["metric", *labels]))
    has_room = width >= widest + 44
    yield f"{'metric':<{widest}}{'value':>9}  {'95 % interval':<16}{'  noise floor' * has_room}"
    for label, number in zip(labels, numbers, strict=True):
        sign = "+" if number.metric == "signed_gap" else ""
        value, low, high = (f"{x:{sign}z.3f}" for x in (number.value, *number.ends))
        floor = "" if number.noise_floor is None else f"{number.noise_floor:>13.3f}"
        interval = f"{f'[{low}, {high}]':<16}{floor * has_room}"
        yield f"{label:<{widest}}{value:>9}  {interval}".rstrip()


def _item_block(
    detail: Detail, eligible: int, kind: str, options: argparse.Namespace, width: int
) -> Iterator[str]:
    """Yield the items asked for."""
    from pytest_calibration.reports.item_lines import item_lines
    from pytest_calibration.text.layout import wrapped

    correct = options.correct
    title, items = replace(detail, turned=None).named if options.wrong else detail.named
    if correct:
        title = "least confident correct answers"
    if not items:
        yield f"no answer is {'correct' if correct else 'wrong'}"
        return
    turned = detail.turned.wrong if detail.turned is not None and not options.wrong else 0
    yield from wrapped(f"{title}, {len(items):,} of {turned or eligible:,}:", width)
    if not any(item.text for item in items):
        yield from wrapped(NO_TEXT[kind], width)
    digits = len(str(len(items)))
    for number, item in enumerate(items, start=1):
        lead = f"{number:>{digits}}. "
        for line in item_lines(item, width=width - len(lead)):
            yield f"{lead}{line}"
            lead = " " * len(lead)
