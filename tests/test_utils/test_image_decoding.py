"""Decoding leaves Python's warning filters as they are, in many threads at once too."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmzeg.utils.image_decoding import decode_image, is_plain_image


@pytest.fixture
def damaged_exif():
    """Return a JPEG whose EXIF Pillow warns of: an entry's value lies behind the end."""
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\0\0\x14\0\0\x10\0\0\0\0\0'
    file = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, 'JPEG', exif=exif)
    return file.getvalue()


@pytest.mark.filterwarnings('ignore:Truncated File Read:UserWarning:PIL')
def test_filters_stay_in_many_threads(damaged_exif):
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for function in (is_plain_image, lambda content: decode_image(content, 'a.jpg')):
                assert len(list(pool.map(function, [damaged_exif] * 200))) == 200
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == before


def test_no_warning_of_small_damage(damaged_exif, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(damaged_exif)
    read = f'read({str(tmp_path / "a.jpg")!r})'
    pillow = [sys.executable, '-c', f'from PIL.Image import open as read; {read}.getexif()']
    ours = [sys.executable, '-c', f'from mmzeg.utils.image_decoding import read_image as read; print({read}.shape)']
    pillow, ours = (subprocess.run(command, capture_output=True, text=True) for command in (pillow, ours))
    assert 'Warning: Truncated File Read' in pillow.stderr
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, '(8, 8, 3)\n', '')
