"""A lock on the output folder: of two runs on one folder, the second is refused."""

import fcntl
import os
from pathlib import Path

from mmzeg.labelling.storage import Storage

LOCK = '.lock'


class RunLock:
    """The lock of one run, which all of its processes share.

    The system releases the lock when the last process ends, in whatever way. On shared file systems it holds between
    machines where they support ``flock`` (NFS with a lock daemon, Lustre with the mount option ``flock``); where they
    do not, and in stores, there is no lock: ``warning`` says so.

    Args:
        out (Storage): The output folder.
    """

    def __init__(self, out: Storage) -> None:
        self.warning: str | None = None
        self._out = out
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock in the first process of a run.

        Raises:
            OSError: The folder cannot be written.
            ValueError: Another run works on this folder.
        """
        # Alone first, so that no process of another run has it; then shared with the other processes of this run.
        self._lock(fcntl.LOCK_EX)
        self._lock(fcntl.LOCK_SH)

    def join(self) -> None:
        """Take the lock in another process of the run, after the first one has it."""
        self._lock(fcntl.LOCK_SH)

    def release(self) -> None:
        """Release the lock of this process."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, kind: int) -> None:
        if not self._out.is_local:
            self.warning = f'{self._out}: stores have no locks: start only one run on it at a time'
            return
        if self._file is None:
            path = Path(self._out.path(LOCK))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f'{self._out}: another run is labelling into this folder: wait for its end, or give another folder'
            ) from error
        except OSError as error:
            self.warning = (
                f'{self._out}: this file system has no locks ({error.strerror}): start only one run on it at a time'
            )
