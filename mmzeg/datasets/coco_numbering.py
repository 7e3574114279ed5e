"""Check that COCO-Stuff's label maps are numbered as MMSegmentation numbers them, which no single file can tell."""

from collections.abc import Mapping

from mmseg.datasets import COCOStuffDataset

CLASSES = COCOStuffDataset.METAINFO['classes']
# Raw stuffthingmaps hold COCO's id minus 1, up to 181, with gaps: MMSegmentation has no such values.
RAW_VALUES = range(len(CLASSES), 182)
# In fewer images a class may be absent, or a rare class frequent, by chance.
MIN_IMAGES = 1000
# Classes of tens of thousands of images in COCO, and classes of a few hundred.
COMMON_CLASSES = ('person', 'chair', 'car', 'tree', 'grass')
RARE_CLASSES = ('hair drier', 'toaster')
FIX_HINT = "make them from the raw stuffthingmaps by MMSegmentation's tools/dataset_converters/coco_stuff164k.py"


def find_numbering_problems(images_by_value: Mapping[int, int], num_images: int) -> list[str]:
    """Return what contradicts MMSegmentation's numbering: 0 to 170 in the order of COCO's ids, 255 for no class.

    Args:
        images_by_value (Mapping[int, int]): For every value in the files, the number of label maps that hold it.
        num_images (int): Number of label maps.

    Returns:
        list[str]: At most one problem; empty where nothing contradicts the numbering.
    """
    values = set(images_by_value) - {255}
    if not values:
        return []
    # Values that only raw stuffthingmaps have.
    raw_values = sorted(values & set(RAW_VALUES))
    if raw_values:
        return [f'COCO-Stuff: value {raw_values[0]} is of raw stuffthingmaps, whose ids have gaps: {FIX_HINT}']
    if num_images < MIN_IMAGES:
        return []
    # Values that are absent.
    highest = max(values)
    if highest < len(CLASSES) - 1:
        return [
            f'COCO-Stuff: none of {num_images} label maps has a value above {highest}: another numbering, as of '
            f'scripts that number the seen classes only (0 to 155): {FIX_HINT}'
        ]
    # Classes that are in too many or too few images.
    for rare in RARE_CLASSES:
        for common in COMMON_CLASSES:
            num_rare = images_by_value.get(CLASSES.index(rare), 0)
            num_common = images_by_value.get(CLASSES.index(common), 0)
            if num_rare > num_common:
                return [
                    f'COCO-Stuff: {rare!r} would be in {num_rare} images and {common!r} in {num_common}: the label '
                    f'maps are very likely numbered in another order, for example seen classes first: {FIX_HINT}'
                ]
    return []
