"""Whether COCO-Stuff's label maps are numbered as MMSegmentation numbers them, which no single file shows."""

from collections.abc import Mapping

from mmseg.datasets import COCOStuffDataset

CLASSES = COCOStuffDataset.METAINFO['classes']
# Raw stuffthingmaps hold id - 1 up to 181, with gaps.
RAW = range(len(CLASSES), 182)
# Fewer images may lack a class, or hold more of a rare one, by chance.
ENOUGH = 1000
# What COCO has in tens of thousands of images, and in a few hundred.
COMMON, RARE = ('person', 'chair', 'car', 'tree', 'grass'), ('hair drier', 'toaster')
FIX_HINT = "make them from the raw stuffthingmaps by MMSegmentation's tools/dataset_converters/coco_stuff164k.py"


def find_numbering_problems(images_of: Mapping[int, int], images: int) -> list[str]:
    """What speaks against MMSegmentation's numbering, 0 to 170 in the order of the ids, 255 for nothing.

    Args:
        images_of (Mapping[int, int]): For every value in the files, in how many label maps it is.
        images (int): How many label maps there are.
    """
    found = set(images_of) - {255}
    if not found:
        return []
    raw = [value for value in RAW if value in found]
    if raw:
        return [f'COCO-Stuff: value {raw[0]} is of raw stuffthingmaps, whose ids have gaps: {FIX_HINT}']
    if images < ENOUGH:
        return []
    highest = max(found)
    if highest < len(CLASSES) - 1:
        return [
            f'COCO-Stuff: of {images} label maps none has a value above {highest}: numbered in another way, as by '
            f'scripts that count the seen classes alone (0 to 155): {FIX_HINT}'
        ]
    for rare in RARE:
        for common in COMMON:
            seldom, often = (images_of.get(CLASSES.index(name), 0) for name in (rare, common))
            if seldom > often:
                return [
                    f'COCO-Stuff: {rare!r} would be in {seldom} images and {common!r} in {often}: in all likelihood '
                    f'the label maps are numbered in another order, with seen classes first for instance: {FIX_HINT}'
                ]
    return []
