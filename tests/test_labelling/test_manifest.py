"""Rows of the manifest: complete lines, or none."""

import errno
import os

import pytest

from mmzeg.labelling import manifest
from mmzeg.labelling.manifest import ManifestPart, dump_rows, read_manifest, read_saved_rows, write_manifest
from mmzeg.labelling.storage import Storage


def row(file, error=None, **fields):
    statistics = dict(pixels={'sky': 6}, ignored=0, margins={'sky': 0.25}, mean_score=0.25)
    return dict(file=file, width=3, height=2, sha1='0', **statistics, seconds=0.5, error=error) | fields


def test_parts_become_the_manifest_sorted_by_file(tmp_path):
    out = Storage(tmp_path)
    for rank, files in enumerate((['c.jpg', 'a.jpg'], ['b/\u00e9\udcff.jpg'])):
        part = ManifestPart(out, rank)
        for file in files:
            part.append(row(file))
        part.close()
    assert (tmp_path / '.parts/0.jsonl').read_bytes().count(b'\n') == 2
    saved = read_saved_rows(out)
    assert saved.num_damaged == 0
    write_manifest(out, saved.rows)
    assert read_manifest(tmp_path) == [row('a.jpg'), row('b/\u00e9\udcff.jpg'), row('c.jpg')]
    assert not list((tmp_path / '.parts').iterdir())


def test_a_part_has_newer_rows_than_the_manifest(tmp_path):
    out = Storage(tmp_path)
    write_manifest(out, {'a.jpg': row('a.jpg', error='truncated'), 'b.jpg': row('b.jpg')})
    part = ManifestPart(out, 0)
    part.append(row('a.jpg'))
    part.close()
    assert read_saved_rows(out).rows == {'a.jpg': row('a.jpg'), 'b.jpg': row('b.jpg')}


@pytest.mark.parametrize(
    'damage',
    [
        lambda line: line[:-9],
        lambda line: b'\xff' + line[1:],
        lambda line: b'[]\n',
        lambda line: line.replace(b'"width"', b'"with"'),
        lambda line: line.replace(b'"ignored": 0', b'"ignored": null'),
    ],
)
def test_damaged_lines_are_left_out(tmp_path, damage):
    lines = [dump_rows([row(file)]) for file in ('a.jpg', 'b.jpg', 'c.jpg')]
    (tmp_path / '.parts').mkdir()
    # The last line is written in part, as when a process is killed.
    (tmp_path / '.parts/0.jsonl').write_bytes(lines[0] + damage(lines[1]).removesuffix(b'\n') + b'\n' + lines[2][:20])
    saved = read_saved_rows(Storage(tmp_path))
    assert saved.rows == {'a.jpg': row('a.jpg')} and saved.num_damaged == 2


def test_reading_a_manifest_that_is_damaged_or_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='manifest.jsonl: no such manifest'):
        read_manifest(tmp_path)
    (tmp_path / 'manifest.jsonl').write_bytes(dump_rows([row('a.jpg')]) + b'{"file"')
    with pytest.raises(ValueError, match='manifest.jsonl: line 2 is damaged'):
        read_manifest(tmp_path)


def test_a_row_that_does_not_fit_on_the_disk_is_not_written(tmp_path, monkeypatch):
    part = ManifestPart(Storage(tmp_path), 0)
    part.append(row('a.jpg'))
    monkeypatch.setattr(manifest.os, 'write', FullDisk(os.write))
    with pytest.raises(OSError, match=r'No space left on device.*0.jsonl'):
        part.append(row('b.jpg'))
    monkeypatch.undo()
    part.append(row('c.jpg'))
    part.close()
    saved = read_saved_rows(Storage(tmp_path))
    assert list(saved.rows) == ['a.jpg', 'c.jpg'] and saved.num_damaged == 0


class FullDisk:
    """Writes the first 30 bytes, then fails."""

    def __init__(self, write):
        self.write = write
        self.num_calls = 0

    def __call__(self, file, content):
        self.num_calls += 1
        if self.num_calls == 1:
            return self.write(file, content[:30])
        raise OSError(errno.ENOSPC, 'No space left on device')
