"""Fixtures of all tests. pytest adds this folder to the import path, so that its helper modules are importable."""

import os
import shutil
import tempfile
from multiprocessing.util import get_temp_dir

import pytest
from mmengine.logging import MMLogger
from mmseg.visualization import SegLocalVisualizer

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
SWITCHES = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update']


def pytest_collection_modifyitems(items):
    """Put the folders of the longest files first, so that no process of xdist waits for another at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ('test_docs', 'test_tools'))


@pytest.fixture(scope='session', autouse=True)
def temporary_folder(tmp_path_factory):
    """A folder for what is not in tmp_path, removed at the end: libraries and killed processes leave files there."""
    # pytest keeps the folders of failed tests where it chose to.
    tmp_path_factory.getbasetemp()
    # multiprocessing removes its own folder, later than this one is removed.
    get_temp_dir()
    # Processes that are ending remove their files meanwhile.
    arguments = dict(prefix='mmzeg_tests_', ignore_cleanup_errors=True)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(**arguments) as folder:
        patch.setenv('TMPDIR', folder)
        patch.setattr(tempfile, 'tempdir', folder)
        yield


@pytest.fixture(autouse=True)
def own_visualizer_and_logger():
    """MMEngine keeps those of a process: they would write into the folder, or leave out what the level of an earlier
    test leaves out."""
    yield
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    MMLogger._instance_dict.clear()
    SegLocalVisualizer._instance_dict.clear()


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
