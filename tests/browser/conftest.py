"""A real Chromium, driven without a window.

Debian has it as `chromium` and `chromium-driver`; elsewhere `CHROMIUM` and `CHROMEDRIVER` name the
two programs. Where they are missing the tests are skipped, except under `tox -e browser`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

# Set by `tox -e browser`, where a missing browser is an error.
REQUIRED: Final = "CALIBRATION_BROWSER_REQUIRED"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH: Final = 1200
HEIGHT: Final = 900


def program(variable: str, *names: str) -> str:
    """Return the path of a program, named by the environment or found on the path."""
    named = os.environ.get(variable)
    found = named or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing(f"no {' or '.join(names)} on the path; install it, or name it in {variable}")
    return found


def missing(reason: str) -> Any:
    """Skip, or fail where the browser is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Page:
    """A page in the browser, and what was seen of it."""

    def __init__(self, driver: Chrome, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.opened: set[str] = set()
        self.requested: list[str] = []
        self.refused: list[str] = []
        self.messages: list[str] = []

    def open(self, source: str, fragment: str = "") -> Page:
        """Write a page to a file of its own, and open it."""
        file = self.folder / f"page-{len(self.opened)}.html"
        file.write_text(source, encoding="utf-8")
        self.opened.add(file.as_uri())
        self.driver.get(f"{file.as_uri()}{fragment}")
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return its value."""
        return self.driver.execute_script(script, *arguments)

    def send(self, command: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that a selector finds."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        """Return the only one of them."""
        (found,) = self.all(selector)
        return found

    def shown(self, selector: str) -> list[str]:
        """Return the text of those that can be seen."""
        return [e.text for e in self.all(selector) if e.is_displayed()]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def emulate(self, media: str = "", **features: str) -> None:
        """Pretend to be on paper, or to prefer something."""
        listed = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.send("Emulation.setEmulatedMedia", media=media, features=listed)

    def resize(self, width: int, height: int = HEIGHT) -> None:
        """Give the page this many pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def printed(self) -> bytes:
        """Print the page on A4."""
        paper = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(paper["data"])

    def read_logs(self) -> None:
        """Note what was requested and what the console was told since the last time."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"].partition("#")[0])
            if message["method"] == "Network.loadingFailed":
                self.refused.append(message["params"].get("blockedReason", ""))
        self.messages += [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def driver() -> Iterator[Chrome]:
    """Start a browser that asks nobody for anything."""
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed: pip install --group browser")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program("CHROMIUM", *BROWSERS)
    options.add_argument("--headless=new")
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    options.add_argument("--disable-background-networking")
    # A page that still glides is no place to click.
    options.add_argument("--force-prefers-reduced-motion")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        # Chromium refuses its sandbox to root, which is who runs in most containers.
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(program("CHROMEDRIVER", "chromedriver"))
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture
def page(driver: Chrome, tmp_path: Path) -> Iterator[Page]:
    """Give a page; afterwards nothing but it may have been requested, and the console is silent."""
    made = Page(driver, tmp_path)
    made.read_logs()
    made.requested, made.refused, made.messages = [], [], []
    made.emulate()
    made.resize(WIDTH)
    yield made
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    made.read_logs()
    assert set(made.requested) <= made.opened
    assert made.messages == []
