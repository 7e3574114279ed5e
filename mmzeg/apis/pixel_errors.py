"""Wrong pixels of a prediction by their cause: calibration, classification or the mask."""

from dataclasses import replace

import numpy as np

from mmzeg.apis.segment_predictions import SegmentPredictions
from mmzeg.models.fusion import ScoreFusion

# Causes in the order in which they are tested, and when a wrong pixel has them.
ERROR_CAUSES = {
    'calibration': 'right without calibration (gamma 0)',
    'classification': 'in a segment that lies mostly on the right class, but is classified otherwise',
    'mask': 'in a segment that lies mostly on another class',
}
IGNORE_INDEX = 255


def errors_by_cause(predictions: SegmentPredictions, fusion: ScoreFusion, annotation: np.ndarray) -> dict[str, float]:
    """Return the wrong pixels, in percent of the annotated ones, by the first of ``ERROR_CAUSES`` that holds.

    Args:
        predictions (SegmentPredictions): Of the image.
        fusion (ScoreFusion): Mode, lambda and gamma.
        annotation (np.ndarray): (H, W) ground truth: class indices, 255 where a pixel is not annotated.

    Raises:
        ValueError: A label map of another size, without an annotated pixel, or with a value that is not a class.
    """
    labels, segments = predictions.label_map_and_segments(fusion, masks=True)
    labels = labels.cpu().numpy()
    num_classes = len(predictions.vocabulary)
    if annotation.shape != labels.shape:
        height, width = annotation.shape
        raise ValueError(
            f'the label map is {width} x {height} pixels, the image {labels.shape[1]} x {labels.shape[0]}: give the '
            'label map of this image'
        )
    annotated = annotation != IGNORE_INDEX
    if not annotated.any():
        raise ValueError(f'the label map has no annotated pixel: every value is {IGNORE_INDEX}')
    highest = annotation[annotated].max()
    if highest >= num_classes:
        raise ValueError(
            f'label value {highest} is not a class: label values must be 0 to {num_classes - 1}, or {IGNORE_INDEX} for '
            'not annotated'
        )
    # Labels without calibration, and the annotated class on which each pixel's segment mostly lies.
    uncalibrated = predictions.label_map(replace(fusion, gamma=0.0)).cpu().numpy()
    segment_class = np.full_like(labels, -1)
    for segment in segments:
        pixels = segment['mask'] & annotated
        if pixels.any():
            segment_class[pixels] = np.bincount(annotation[pixels]).argmax()
    # Every wrong pixel has one cause.
    wrong = annotated & (labels != annotation)
    by_calibration = wrong & (uncalibrated == annotation)
    by_classification = wrong & ~by_calibration & (segment_class == annotation)
    by_mask = wrong & ~by_calibration & ~by_classification
    causes = dict(calibration=by_calibration, classification=by_classification, mask=by_mask)
    return {cause: 100 * float(pixels.sum() / annotated.sum()) for cause, pixels in causes.items()}
