"""Files are written behind the network, a bounded number at a time."""

import threading

import numpy as np
import pytest

from mmzeg.labelling.image_reader import InputImage
from mmzeg.labelling.label_writer import LabelWriter
from mmzeg.labelling.manifest import ManifestPart, read_saved_rows
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.storage import Storage


@pytest.fixture
def writer(tmp_path):
    out = Storage(tmp_path)
    return LabelWriter(out, ManifestPart(out, 0), LabelOptions('images', str(tmp_path)), ['sky', 'sea'], max_pending=3)


def write(writer, number):
    image = InputImage(f'{number}.jpg', False, sha1='0', width=4, height=4)
    writer.write(image, np.full((4, 4), number % 2, np.int32), np.full((4, 4), 0.5, np.float32), 0.1)


def test_a_bounded_number_of_images_waits(writer, tmp_path, monkeypatch):
    disk_is_ready = threading.Event()
    storage_write = Storage.write

    def slow_write(storage, name, content):
        disk_is_ready.wait(60)
        storage_write(storage, name, content)

    monkeypatch.setattr(Storage, 'write', slow_write)
    accepted = []
    network = threading.Thread(target=lambda: [write(writer, n) or accepted.append(n) for n in range(6)])
    network.start()
    network.join(1.0)
    assert network.is_alive() and accepted == [0, 1, 2]
    disk_is_ready.set()
    network.join(60)
    writer.close()
    assert len(list((tmp_path / 'annotations').iterdir())) == 6 == len(read_saved_rows(Storage(tmp_path)).rows)


def test_an_error_is_raised_by_the_next_call_and_no_row_is_written(writer, tmp_path):
    (tmp_path / 'annotations').write_text('a file in place of the folder')
    write(writer, 0)
    with pytest.raises(OSError, match='annotations'):
        writer.close()
    assert not read_saved_rows(Storage(tmp_path)).rows
