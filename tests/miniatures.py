"""Write miniature datasets in their real form: folders, file names, label values; one function per dataset."""

import json
import pickle
import pkgutil
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (48, 64)
NUM_COCO_CLASSES = 171


def ade20k_full_ids() -> dict[str, int]:
    """Return the ids that ADE20K's release gives the 847 classes of ADE20K-Full, seen first."""
    split = json.loads(pkgutil.get_data('mmzeg', 'datasets/splits/ade20k_full_572_275.json'))
    return {name: split['ade_full_id'][name] for name in (*split['seen'], *split['unseen'])}


def striped_labels(values: list[int]) -> np.ndarray:
    """Return a label map (48, 64) with the values in cells of 1 x 8 pixels, row by row, repeated to fill it."""
    return np.repeat(np.resize(values, (SIZE[0], SIZE[1] // 8)), 8, 1)


def write_image(path: Path) -> None:
    """Write a JPEG or PNG of noise that depends only on the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_label_map(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    """Write a PNG of 8 or 16 bits, grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))
    if palette:
        image = image.convert('P')
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    image.save(path)


def coco_stuff(root: Path) -> None:
    """Write images/*2017/*.jpg and annotations/*2017/*_labelTrainIds.png, as mmseg's converter does: 0 to 170, 255."""
    for split, first in (('train2017', 9), ('val2017', 139)):
        for number in range(first, first + 2):
            write_image(root / f'images/{split}/{number:012d}.jpg')
            labels = striped_labels([*range(NUM_COCO_CLASSES), 255])
            write_label_map(root / f'annotations/{split}/{number:012d}_labelTrainIds.png', labels)


def voc(root: Path) -> None:
    """Write VOC2012 and SBD's SegmentationClassAug: palette PNGs, 0 background, 1 to 20, 255 borders."""
    lists = dict(train=['2007_000032', '2007_000039'], aug=['2008_000002', '2008_000003'], val=['2007_000033'])
    for split, stems in lists.items():
        for stem in stems:
            write_image(root / f'JPEGImages/{stem}.jpg')
            folder = 'SegmentationClassAug' if split == 'aug' else 'SegmentationClass'
            write_label_map(root / f'{folder}/{stem}.png', striped_labels([*range(21), 255]), palette=split != 'aug')
        path = root / f'ImageSets/Segmentation/{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(stems) + '\n')


def ade20k_release(root: Path) -> None:
    """Write the 2021 release: images, label maps whose red and green encode the class, object parts, pickled index."""
    ids = list(ade20k_full_ids().values())
    index = dict(filename=[], folder=[], objectPresence=None)
    for name, folder in (
        ('ADE_train_00000001', 'training/urban/street'),
        ('ADE_train_00000002', 'training/home_or_hotel/kitchen'),
        ('ADE_val_00000001', 'validation/urban/street'),
    ):
        folder_path = root / 'images/ADE' / folder
        write_image(folder_path / f'{name}.jpg')
        labels = np.resize([*ids, 0], SIZE)
        code = np.stack([labels // 256 * 10, labels % 256, np.zeros_like(labels)], -1).astype(np.uint8)
        for suffix in ('seg', 'parts_1'):
            Image.fromarray(code).save(folder_path / f'{name}_{suffix}.png')
        index['filename'].append(f'{name}.jpg')
        index['folder'].append(f'ADE20K_2021_17_01/images/ADE/{folder}')
    index['objectPresence'] = np.zeros((3148, len(index['filename'])))
    (root / 'index_ade20k.pkl').write_bytes(pickle.dumps(index))


def ade20k_150(root: Path) -> None:
    """Write ADEChallengeData2016: 8-bit PNGs, 0 other, 1 to 150."""
    for split, stem in (('training', 'ADE_train_00000001'), ('validation', 'ADE_val_00000001')):
        write_image(root / f'images/{split}/{stem}.jpg')
        write_label_map(root / f'annotations/{split}/{stem}.png', striped_labels(list(range(151))))


def pascal_context(root: Path) -> None:
    """Write VOC2010 with SegmentationClassContext (by mmseg's converter, 0 to 59) and the .mat files of 459 classes."""
    stem = '2008_000002'
    write_image(root / f'JPEGImages/{stem}.jpg')
    write_label_map(root / f'SegmentationClassContext/{stem}.png', striped_labels(list(range(60))))
    path = root / 'ImageSets/SegmentationContext/val.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{stem}\n')
    (root / 'trainval').mkdir()
    labels = np.resize(np.arange(460), SIZE).astype(np.uint16)
    savemat(root / f'trainval/{stem}.mat', dict(LabelMap=labels), do_compression=True)


def cityscapes(root: Path) -> None:
    """Write leftImg8bit/val/CITY/*_leftImg8bit.png and gtFine/val/CITY/*_gtFine_labelTrainIds.png: 0 to 18, 255."""
    stem = 'frankfurt/frankfurt_000000_000294'
    write_image(root / f'leftImg8bit/val/{stem}_leftImg8bit.png')
    write_label_map(root / f'gtFine/val/{stem}_gtFine_labelTrainIds.png', striped_labels([*range(19), 255]))
