"""Every dataset in miniature, in its real form on disk: folders, file names, label values; one function a dataset."""

import json
import pickle
import pkgutil
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (48, 64)
COCO_VALUES = 171


def ade20k_full_ids() -> dict[str, int]:
    """ADE20K-Full's own ids of the 847 classes, seen first."""
    split = json.loads(pkgutil.get_data('mmzeg', 'datasets/splits/ade20k_full_572_275.json'))
    return {name: split['ade_full_id'][name] for name in (*split['seen'], *split['unseen'])}


def spread(values: list[int]) -> np.ndarray:
    """A label map (48, 64) that holds some of these values in stripes, others in other pictures."""
    return np.repeat(np.resize(values, (SIZE[0], SIZE[1] // 8)), 8, 1)


def picture(path: Path) -> None:
    """A JPEG or PNG of noise, the same for the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def label_map(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    """A PNG of 8 or 16 bits, in grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))
    if palette:
        image = image.convert('P')
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    image.save(path)


def coco_stuff(root: Path) -> None:
    """images/*2017/*.jpg, annotations/*2017/*_labelTrainIds.png as mmseg's converter writes them: 0 to 170, 255."""
    for split, first in (('train2017', 9), ('val2017', 139)):
        for number in range(first, first + 2):
            picture(root / f'images/{split}/{number:012d}.jpg')
            labels = spread([*range(COCO_VALUES), 255])
            label_map(root / f'annotations/{split}/{number:012d}_labelTrainIds.png', labels)


def voc(root: Path) -> None:
    """VOC2012 and SBD's SegmentationClassAug: palette PNGs, 0 background, 1 to 20, 255 borders."""
    lists = dict(train=['2007_000032', '2007_000039'], aug=['2008_000002', '2008_000003'], val=['2007_000033'])
    for split, stems in lists.items():
        for stem in stems:
            picture(root / f'JPEGImages/{stem}.jpg')
            folder = 'SegmentationClassAug' if split == 'aug' else 'SegmentationClass'
            label_map(root / f'{folder}/{stem}.png', spread([*range(21), 255]), palette=split != 'aug')
        path = root / f'ImageSets/Segmentation/{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(stems) + '\n')


def ade20k_release(root: Path) -> None:
    """The 2021 release: photo, label map whose red and green code the class, part levels, pickled index."""
    ids = list(ade20k_full_ids().values())
    index = dict(filename=[], folder=[], objectPresence=None)
    for name, folder in (
        ('ADE_train_00000001', 'training/urban/street'),
        ('ADE_train_00000002', 'training/home_or_hotel/kitchen'),
        ('ADE_val_00000001', 'validation/urban/street'),
    ):
        place = root / 'images/ADE' / folder
        picture(place / f'{name}.jpg')
        labels = np.resize([*ids, 0], SIZE)
        code = np.stack([labels // 256 * 10, labels % 256, np.zeros_like(labels)], -1).astype(np.uint8)
        for suffix in ('seg', 'parts_1'):
            Image.fromarray(code).save(place / f'{name}_{suffix}.png')
        index['filename'].append(f'{name}.jpg')
        index['folder'].append(f'ADE20K_2021_17_01/images/ADE/{folder}')
    index['objectPresence'] = np.zeros((3148, len(index['filename'])))
    (root / 'index_ade20k.pkl').write_bytes(pickle.dumps(index))


def ade20k_150(root: Path) -> None:
    """ADEChallengeData2016: 8-bit PNGs, 0 other, 1 to 150."""
    for split, stem in (('training', 'ADE_train_00000001'), ('validation', 'ADE_val_00000001')):
        picture(root / f'images/{split}/{stem}.jpg')
        label_map(root / f'annotations/{split}/{stem}.png', spread(list(range(151))))


def pascal_context(root: Path) -> None:
    """VOC2010 with SegmentationClassContext as mmseg's converter writes it, 0 to 59, and the .mat files of 459."""
    stem = '2008_000002'
    picture(root / f'JPEGImages/{stem}.jpg')
    label_map(root / f'SegmentationClassContext/{stem}.png', spread(list(range(60))))
    path = root / 'ImageSets/SegmentationContext/val.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{stem}\n')
    (root / 'trainval').mkdir()
    labels = np.resize(np.arange(460), SIZE).astype(np.uint16)
    savemat(root / f'trainval/{stem}.mat', dict(LabelMap=labels), do_compression=True)


def cityscapes(root: Path) -> None:
    """leftImg8bit/val/CITY/*_leftImg8bit.png and gtFine/val/CITY/*_gtFine_labelTrainIds.png: 0 to 18, 255."""
    stem = 'frankfurt/frankfurt_000000_000294'
    picture(root / f'leftImg8bit/val/{stem}_leftImg8bit.png')
    label_map(root / f'gtFine/val/{stem}_gtFine_labelTrainIds.png', spread([*range(19), 255]))
