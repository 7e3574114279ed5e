"""The lock of a run: several processes of one run, none of another."""

import subprocess
import sys

import pytest

from mmzeg.labelling.run_lock import RunLock
from mmzeg.labelling.storage import Storage

HOLD = """
import sys
from mmzeg.labelling.run_lock import RunLock
from mmzeg.labelling.storage import Storage
lock = RunLock(Storage(sys.argv[1]))
lock.acquire()
print('locked', flush=True)
sys.stdin.read()
"""


def test_the_second_run_is_refused_until_every_process_of_the_first_ended(tmp_path):
    out = Storage(tmp_path / 'out')
    first, member, second = RunLock(out), RunLock(out), RunLock(out)
    first.acquire()
    member.join()
    with pytest.raises(ValueError, match='another run is labelling into this folder'):
        second.acquire()
    first.release()
    with pytest.raises(ValueError, match='another run'):
        second.acquire()
    member.release()
    second.acquire()
    second.release()
    assert second.warning is None


def test_a_killed_process_leaves_no_lock(tmp_path):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], **pipes) as process:
        assert process.stdout.readline() == 'locked\n'
        lock = RunLock(Storage(tmp_path))
        with pytest.raises(ValueError, match='another run'):
            lock.acquire()
        process.kill()
        process.wait()
        lock.acquire()
        lock.release()


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr('fcntl.flock', flock)
    lock = RunLock(Storage(tmp_path))
    lock.acquire()
    assert 'this file system has no locks (Function not implemented): start only one run' in lock.warning
