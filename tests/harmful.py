"""What a malicious pickle looks like."""

from pathlib import Path


class Harmful:
    """Unpickled, it makes the file ``harmed`` in the current folder."""

    def __reduce__(self):
        return Path.touch, (Path('harmed'),)
