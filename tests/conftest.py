"""Makes the helper modules of this folder importable: pytest adds the folder of a conftest.py to the import path."""


def pytest_collection_modifyitems(items):
    """Put the folders of the longest files first, so that no process of xdist waits for another at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ('test_docs', 'test_tools'))
