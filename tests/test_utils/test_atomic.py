import json

import numpy as np
import pytest

from mmzeg.utils.atomic import atomic_write, write_json
from mmzeg.utils.tables import format_score


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / 'result.txt'
    path.write_text('old')

    def interrupted(partial):
        partial.write_text('half of the new')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, interrupted)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]
    atomic_write(path, lambda partial: partial.write_text('new'))
    assert path.read_text() == 'new' and list(tmp_path.iterdir()) == [path]


def test_json_in_a_new_folder(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'report.json'
    write_json(path, dict(hIoU=None))
    assert json.loads(path.read_text()) == dict(hIoU=None)


def test_scores_in_tables():
    assert [format_score(value) for value in (12.345, 0.0, None)] == ['12.35', '0.00', '-']


def test_numbers_of_numpy_are_plain_in_json(tmp_path):
    write_json(tmp_path / 'a.json', dict(mIoU=np.float32(2.5), images=np.int64(3), name='a'))
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(mIoU=2.5, images=3, name='a')
    with pytest.raises(TypeError, match='set is not JSON serializable'):
        write_json(tmp_path / 'b.json', {'a': {1}})
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']
