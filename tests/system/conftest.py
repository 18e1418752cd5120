"""Chromium for tests of HTML pages."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic"),
)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed (.ci/run installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser) -> Callable:
    """``visit(path, ...)``: the page, which must print nothing to the console and load no other file."""
    opened, asked, complaints = [], [], []

    def visit(path: Path, **settings):
        context = browser.new_context(**settings)
        opened.append((context, path.as_uri()))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: request.url.startswith("data:") or asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield visit
    for context, _ in opened:
        context.close()
    assert complaints == []
    assert asked == [uri for _, uri in opened]
