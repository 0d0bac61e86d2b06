"""The pictures of docs/report.md, from a store: `python docs/pictures.py reports/results.sqlite`.

Those that are there: a virtual machine with 2 cores, by the bundled server and a native one, on a GPU in software too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

# ruff: noqa: E402 - the lab is a folder of the tests
from lab.browser import CHROMIUM, FLAGS
from playwright.sync_api import sync_playwright

from edgebench.cli.report import gather
from edgebench.store.filters import ALL_RECORDS
from edgebench.store.results import Store
from edgebench.views.html import page

SHOTS = {
    "report": ({"viewport": {"width": 1280, "height": 860}}, ""),
    "report-dark": ({"viewport": {"width": 1280, "height": 1320}, "color_scheme": "dark"}, "f-threads"),
    "report-phone": ({"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5}, ""),
}
"""Name: the browser's screen, and the part of the page it shows."""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Say from which store: python docs/pictures.py reports/results.sqlite")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "index.html"
        with Store(Path(sys.argv[1]), read_only=True) as store:
            path.write_text(page(gather(store, ALL_RECORDS), logs=store.logs), "utf-8")
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for name, (screen, part) in SHOTS.items():
            opened = browser.new_context(**screen).new_page()
            opened.goto(path.as_uri())
            opened.wait_for_selector("html[data-figures=drawn]", state="attached")
            if part and not opened.query_selector(f"#{part}"):
                sys.exit(f"{name}.png shows #{part}, and a report of this store has none")
            if part:
                opened.evaluate("id => document.getElementById(id).scrollIntoView()", part)
            opened.screenshot(path=HERE / "img" / f"{name}.png")


if __name__ == "__main__":
    main()
