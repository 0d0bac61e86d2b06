"""Debian's Chromium, headless, driven by playwright, with everything it says and asks for noted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.tier import enter

if TYPE_CHECKING:  # what the light tier doesn't install
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000
"""Milliseconds: the machine may be busy with other tests."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    enter("the browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, timeout=PATIENCE)
        yield running
        running.close()


class Seen:
    """A page, and what it printed to the console, threw and asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def drawn(self) -> None:
        """Wait until every figure is drawn."""
        self.page.wait_for_selector("html[data-figures=drawn]", state="attached")


@pytest.fixture
def look(browser: Browser) -> Iterator[Any]:
    """``look(url, **context)``: a fresh context with the page opened in it."""
    contexts = []

    def opened(url: str, **options: Any) -> Seen:
        context = browser.new_context(**options)
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.goto(url)
        return seen

    yield opened
    for context in contexts:
        context.close()
