"""The progress of a run in one line: images, images a second, time left."""

import datetime
import sys
import time
from typing import TextIO

# Seconds between two lines of a log file, and between two updates of a terminal's line.
LOG_INTERVAL = 30.0
TERMINAL_INTERVAL = 0.5


class ProgressLine:
    """Print how far a run is: one line that changes in a terminal, one line every 30 seconds in a log file.

    Args:
        num_images (int): Images of this process that are left to label.
        num_total (int, optional): Images of all processes that are left to label. Defaults to ``num_images``.
        file (TextIO, optional): Where to print. Defaults to stderr.
    """

    def __init__(self, num_images: int, num_total: int | None = None, file: TextIO | None = None) -> None:
        self._num_images = num_images
        self._num_total = num_total or num_images
        self._file = file or sys.stderr
        self._interval = TERMINAL_INTERVAL if self._file.isatty() else LOG_INTERVAL
        self._start = self._last = time.monotonic()
        self._count = 0

    def advance(self, count: int = 1) -> None:
        """Count images, and print if it is time to."""
        self._count += count
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._print(end='\r' if self._file.isatty() else '\n')

    def finish(self) -> None:
        """Print the last line."""
        self._print(end='\n')

    def _print(self, end: str) -> None:
        # Blanks cover the end of a longer line before.
        print(f'{self.line():<79}', end=end, file=self._file, flush=True)

    def line(self) -> str:
        """Return the line. With several processes it estimates those of all from this process's share."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self._count / seconds
        left = datetime.timedelta(seconds=round((self._num_images - self._count) / rate)) if rate else 'unknown time'
        share = self._num_images / self._num_total
        about = 'about ' if share < 1 else ''
        return f'{about}{self._count / share:.0f} of {self._num_total} images, {rate / share:.2f} images/s, {left} left'
