"""A real Chromium without a window for tests: started with a profile and a download folder, driven, or killed hard."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from urllib3.exceptions import HTTPError
from waiting import until

AXE = Path(__file__).parents[1] / ".venv" / "tools" / "axe"
WIDE, PHONE = (1280, 800), (390, 844)
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser(Chrome):
    """Chromium under Selenium.

    Attributes:
        downloads: Where files that pages save arrive.
    """

    downloads: Path

    def element(self, css: str) -> WebElement:
        """The one element that a CSS selector finds first."""
        return self.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """The text of an element as it stands in the page, shown or not, white space kept."""
        return str(self.element(css).get_property("textContent"))

    def show_as(self, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        """Give the page that size in CSS pixels (width, height), a phone's touch screen below 600, and its colours."""
        phone = size[0] < 600
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": phone}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def console(self) -> list[str]:
        """What was written to the console since the last call, blocked content included."""
        return [str(entry["message"]) for entry in self.execute("getLog", {"type": "browser"})["value"]]

    def barriers(self) -> list[str]:
        """What axe-core (WCAG 2.2 A and AA, and best practices) finds wrong with the page as it stands."""
        axe = next(AXE.glob("lib/python3*/site-packages/axe_playwright_python/axe.min.js"), None)
        if axe is None:
            absent = pytest.fail if os.environ.get("CI") else pytest.skip
            absent("no axe-core: make .venv/tools/axe/installed")
        self.execute_script(axe.read_text(encoding="utf-8"))
        found = self.execute_async_script(
            "const shown = Promise.all(document.getAnimations().map((each) => each.finished));"
            "shown.then(() => axe.run()).then(arguments[0], (error) => arguments[0](String(error)))"
        )
        assert isinstance(found, dict), found
        return [
            f"{each['id']}: {node['html']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    def downloaded(self, name: str = "*") -> Path:
        """The one file that matches in the download folder, once it is whole."""
        return until(lambda: next((p for p in self.downloads.glob(name) if p.suffix != ".crdownload"), None))

    def kill(self, kind: str = "") -> None:
        """End processes of this browser as a crash does (SIGKILL): all of them, or those of a kind, as `renderer`."""
        if not (found := descendants(self.service.process.pid)):
            pytest.skip("the processes of the browser are found in /proc, which is not here")
        for pid in found:
            with suppress(OSError):
                if f"--type={kind}" in Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace") or not kind:
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Chromium with its profile and its downloads in `folder`; the same folder again is the same user again.

    The test is skipped where there is no Chromium, and fails for it where the environment has CI.
    """
    programs = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if None in programs:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    for switch in (*SWITCHES, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(switch)
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Browser(options=options, service=Service(str(programs[1])))
    browser.downloads = downloads
    try:
        yield browser
    finally:
        left = descendants(browser.service.process.pid)
        with suppress(WebDriverException, HTTPError, OSError):  # it may have been killed
            browser.quit()
        browser.service.stop()
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started; empty where there is no /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    found = [child for child, parent in parents.items() if parent == pid]
    for child in found:
        found += [other for other, parent in parents.items() if parent == child]
    return found
