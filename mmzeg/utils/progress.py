"""Progress bars."""

import sys
from collections.abc import Iterator, Sequence

from mmengine.utils import track_iter_progress


def track_on_stderr(items: Sequence) -> Iterator:
    """Yield the items with a progress bar on stderr, so that stdout has only the results."""
    return track_iter_progress((items, len(items)), file=sys.stderr)
