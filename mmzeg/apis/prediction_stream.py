"""Predictions of any number of images, one batch after another: what all inferencers stream."""

from collections.abc import Callable, Iterator
from itertools import islice

from mmcv.transforms import Compose

from mmzeg.apis.image_reading import file_of, source_name
from mmzeg.apis.input_pipeline import apply_input_pipeline


def stream_predictions(
    images: Iterator[tuple], batch_size: int, pipeline: Compose, predict: Callable[[list[dict]], list[dict | str]]
) -> Iterator[dict]:
    """Predict images in bounded memory.

    Args:
        images (Iterator[tuple]): As from ``read_images``.
        batch_size (int): Images that are in memory together. Those of one size go through the network together.
        pipeline (Compose): The test pipeline.
        predict (Callable): Returns the prediction of every image of one size, from what the pipeline returns for them;
            or why there is none.

    Yields:
        dict: ``input``, ``image`` (H, W, 3) uint8 RGB, ``prediction`` and ``error``. Either ``image`` and
        ``prediction`` are set, or ``error`` says why not.
    """
    while batch := list(islice(images, batch_size)):
        items = [dict(input=source, image=image, prediction=None, error=error) for source, image, error in batch]
        for group in _groups_of_one_size(items, pipeline):
            predictions = predict([data for _, data in group])
            for (item, _), prediction in zip(group, predictions, strict=True):
                if isinstance(prediction, str):
                    item.update(image=None, error=prediction)
                else:
                    item['prediction'] = prediction
        yield from items


def _groups_of_one_size(items: list[dict], pipeline: Compose) -> list[list[tuple[dict, dict]]]:
    """Return the items whose inputs have one size, with their data; an item that the pipeline refuses gets an error."""
    groups: dict[tuple, list[tuple[dict, dict]]] = {}
    for item in items:
        if item['error'] is not None:
            continue
        try:
            data = apply_input_pipeline(pipeline, item['image'], file_of(item['input']))
        except ValueError as error:
            item.update(image=None, error=f'{source_name(item["input"])}: {error}')
            continue
        groups.setdefault(tuple(data['inputs'].shape), []).append((item, data))
    return list(groups.values())
