"""One self-contained page for a browser.

``page``
    the page around the verdicts: head, summary, script.
``verdicts``
    one section per verdict.
``drift``
    how ECE of a probe moved.
``items``
    the most over-confident wrong items.
``diagrams``
    drawings as SVG.
``tables``
    tables that sort and scroll.
``states``
    how the state of a verdict looks.
``numbers``
    how numbers are written.
``markup``
    elements that escape what they hold.
"""

from pytest_calibration.reports.html.page import html_report

__all__ = ["html_report"]
