"""Takes the screenshots in docs/ of the real screens: `make pictures` (needs Chromium, and a minute or three).

The demo makes the workspace and runs its loop; page.png is the batch that it leaves open, report.png its report, and
nightly.png a nightly run in the UI of `pal up`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from chromium import Browser, chromium
from waiting import until

from annotation.synthetic import fill_csv
from flows.cli.demo import _truth as truth_of_demo
from flows.cli.demo import run_demo
from flows.nightly import nightly
from flows.run import start
from flows.server.prefect_api import ask
from flows.server.processes import found_up, stop_up
from flows.server.service import start_in_background
from storage.lake.batches import open_batches
from tasks.project import Project, open_project

DOCS = Path(__file__).parents[1] / "docs"
SIZE = (1100, 900)
DONE = {"state": {"type": {"any_": ["COMPLETED"]}}}


def take(browser: Browser, url: str, name: str, keys: str = "", wait_s: float = 1) -> None:
    """Save a page as a picture in docs/, after some keys."""
    browser.show_as(SIZE)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.get(url)
    until(lambda: not keys or browser.find_elements("css selector", "html[data-ready]"))
    for key in keys:
        browser.switch_to.active_element.send_keys(key)
        time.sleep(0.1)
    time.sleep(wait_s)
    browser.save_screenshot(str(DOCS / name))


def take_nightly(browser: Browser, project: Project) -> None:
    """Answer the open batch, run a night on a server of the workspace, and take its page in Prefect's UI."""
    start_in_background(project, None, 4299)
    try:
        for batch in (project.workspace.batches).glob("*/batch.csv"):
            fill_csv(batch, truth_of_demo())
        start(project, nightly)
        up = found_up(project)
        assert up is not None
        (run,) = ask(up.api, "/flow_runs/filter", {"sort": "END_TIME_DESC", "limit": 1, "flow_runs": DONE})
        take(browser, f"{up.ui}/runs/flow-run/{run['id']}", "nightly.png", wait_s=8)
    finally:
        stop_up(project)


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "browser") as browser:
        root = Path(folder) / "headlines"
        run_demo(root, fresh=False)
        project = open_project(root)
        batch = open_batches(project.workspace.store())[0].batch
        take(browser, (project.workspace.batches / batch.batch_id / "batch.html").as_uri(), "page.png", "anna\n101")
        take(browser, (project.workspace.root / "reports" / "latest.html").as_uri(), "report.png")
        take_nightly(browser, project)


if __name__ == "__main__":
    main()
