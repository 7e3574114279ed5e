"""A label map that does not belong to its image is refused where it is loaded."""

from mmcv.transforms import BaseTransform

from mmzeg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """Put after ``LoadAnnotations``: refuses a label map of another size than its image.

    Raises:
        ValueError: Names both files and both sizes.
    """

    def transform(self, results: dict) -> dict:
        """Check ``gt_seg_map`` (H, W) against ``img`` (H, W, 3); the results are handed on unchanged."""
        image, label = results['img'].shape[:2], results['gt_seg_map'].shape
        if tuple(image) != tuple(label):
            raise ValueError(
                f'{results["seg_map_path"]} is {label[-1]} x {label[0]} pixels but its image {results["img_path"]} is '
                f'{image[1]} x {image[0]}: they must be of one size and the label map of one channel'
            )
        return results
