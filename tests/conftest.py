"""Makes the helper modules of this folder importable: pytest adds the folder of a conftest.py to the import path."""
