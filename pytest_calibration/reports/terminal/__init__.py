"""Plain text for a terminal: diagrams, tables of slices, the text of a failure, the summary."""

from pytest_calibration.reports.terminal.diagram import reliability_diagram
from pytest_calibration.reports.terminal.failure import failure_lines
from pytest_calibration.reports.terminal.slice_table import slices_table
from pytest_calibration.reports.terminal.summary import counts_line, summary_lines

__all__ = [
    "counts_line",
    "failure_lines",
    "reliability_diagram",
    "slices_table",
    "summary_lines",
]
