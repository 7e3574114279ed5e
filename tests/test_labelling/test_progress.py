"""The progress line."""

import io

from mmzeg.labelling import progress
from mmzeg.labelling.progress import ProgressLine


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self):
        return self.now


def lines_of(monkeypatch, is_terminal, **fields):
    """Return what is printed for 100 images of 2 seconds each."""
    clock = Clock()
    monkeypatch.setattr(progress, 'time', clock)
    file = io.StringIO()
    file.isatty = lambda: is_terminal
    line = ProgressLine(100, file=file, **fields)
    for _ in range(100):
        clock.now += 2
        line.advance()
    line.finish()
    return file.getvalue()


def test_a_log_file_gets_a_line_every_30_seconds(monkeypatch):
    lines = [line.strip() for line in lines_of(monkeypatch, is_terminal=False).splitlines()]
    assert len(lines) == 7
    assert lines[0] == '15 of 100 images, 0.50 images/s, 0:02:50 left'
    assert lines[-1] == '100 of 100 images, 0.50 images/s, 0:00:00 left'


def test_a_terminal_has_one_line_that_changes(monkeypatch):
    text = lines_of(monkeypatch, is_terminal=True)
    assert text.count('\r') == 100 and text.count('\n') == 1
    assert len({len(line) for line in text.rstrip('\n').split('\r')}) == 1


def test_several_processes(monkeypatch):
    lines = lines_of(monkeypatch, is_terminal=False, num_total=380).splitlines()
    assert lines[0].strip() == 'about 57 of 380 images, 1.90 images/s, 0:02:50 left'
    assert lines[-1].startswith('about 380 of 380 images, ')
