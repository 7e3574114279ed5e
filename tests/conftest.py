"""Makes the helper modules of this folder importable: pytest adds the folder of a conftest.py to the import path."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
SWITCHES = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update']


def pytest_collection_modifyitems(items):
    """Put the folders of the longest files first, so that no process of xdist waits for another at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ('test_docs', 'test_tools'))


@pytest.fixture(scope='module')
def browser():
    """Root can install a browser by tools/setup_browser.sh; for other users its absence is no failure."""
    if CHROMIUM is None:
        reason = 'no chromium on this machine: bash tools/setup_browser.sh installs it'
        (pytest.fail if 'CI' in os.environ or os.geteuid() == 0 else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()
