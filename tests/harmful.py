"""A malicious pickle."""

from pathlib import Path


class Harmful:
    """Creates the file ``harmed`` in the current folder when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path('harmed'),)
