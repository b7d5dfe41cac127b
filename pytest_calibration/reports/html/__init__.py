"""One self-contained page for a browser.

``rendering``
    the page from its templates.
``views``
    what the templates show that is not a value of the report model already.
``drift_charts``
    how the ECE of a probe drifted.
``drawing``
    the arithmetic of the drawings.
``formats``
    how numbers and text are written.

The markup, the style and the script are in ``templates``.
"""

from pytest_calibration.reports.html.rendering import html_report

__all__ = ["html_report"]
