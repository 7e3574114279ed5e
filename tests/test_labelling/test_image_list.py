"""The images of a run, and its blocks."""

from pathlib import Path

import pytest

from mmzeg.labelling.image_list import (
    check_folders,
    check_stems,
    label_name,
    list_images,
    merge_image_lists,
    pending_blocks,
    read_image_list,
    write_image_list,
)
from mmzeg.labelling.storage import Storage


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_of_all_subfolders(tmp_path):
    touch(tmp_path, 'b.JPG', 'a/c.png', 'a/b/d.webp', 'a/notes.txt', '._b.jpg', '.hidden/e.jpg')
    assert list_images(Storage(tmp_path)) == ['a/b/d.webp', 'a/c.png', 'b.JPG']
    assert label_name('a/b.c.jpg') == 'a/b.c.png'


def test_no_images(tmp_path):
    touch(tmp_path, 'notes.txt')
    with pytest.raises(FileNotFoundError, match='no image in this folder'):
        list_images(Storage(tmp_path))
    with pytest.raises(FileNotFoundError, match='gone: no such folder of images'):
        list_images(Storage(tmp_path / 'gone'))


def test_two_images_of_one_stem(tmp_path):
    check_stems(Storage(tmp_path), ['a/x.jpg', 'b/x.png', 'x.jpg'])
    with pytest.raises(ValueError, match=r'x.png: its label map would replace that of x.jpg: rename'):
        check_stems(Storage(tmp_path), ['x.jpg', 'x.png'])


def test_folders_in_each_other(tmp_path, monkeypatch):
    images = Storage(tmp_path / 'images')
    Path(images.root).mkdir()
    (tmp_path / 'link').symlink_to(images.root)
    for out in ('images', 'images/out', 'link/out'):
        with pytest.raises(ValueError, match='it is in the folder of images'):
            check_folders(images, Storage(tmp_path / out))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='it is in the folder of images'):
        check_folders(Storage('images'), Storage('images/out'))
    with pytest.raises(ValueError, match='these are label maps'):
        check_folders(Storage('out/annotations'), Storage('out'))
    check_folders(images, Storage(tmp_path / 'images2'))
    check_folders(images, Storage(tmp_path))


def test_the_order_of_an_earlier_run_stays():
    earlier = ['b.jpg', 'd.jpg', 'vanished.jpg', 'replaced.jpg']
    listed = ['a.jpg', 'b.jpg', 'd.jpg', 'replaced.png']
    assert merge_image_lists(earlier, listed) == ['b.jpg', 'd.jpg', 'vanished.jpg', 'a.jpg', 'replaced.png']
    assert merge_image_lists([], listed) == listed


def test_the_list_of_an_interrupted_run(tmp_path):
    out = Storage(tmp_path)
    assert read_image_list(out) is None
    write_image_list(out, ['a.jpg', 'b\n\udcff.jpg'])
    assert read_image_list(out) == ['a.jpg', 'b\n\udcff.jpg']
    (tmp_path / '.parts/images.json').write_text('["a.jpg"')
    assert read_image_list(out) is None


@pytest.mark.parametrize('batch_size', [1, 2, 3])
def test_blocks_do_not_depend_on_what_is_done(batch_size):
    names = [str(number) for number in range(29)]
    complete = pending_blocks(names, set(), batch_size)
    assert [name for block in complete for name, _ in block] == names
    done = set(names[:9]) | {'20'}
    blocks = pending_blocks(names, done, batch_size)
    assert [[name for name, _ in block] for block in blocks] == [
        [name for name, _ in block] for block in complete if not all(name in done for name, _ in block)
    ]
    assert {name for block in blocks for name, is_done in block if not is_done} == set(names) - done
    assert not pending_blocks(names, set(names), batch_size)
