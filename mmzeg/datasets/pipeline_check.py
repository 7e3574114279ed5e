"""Apply a pipeline to one sample, and check that its labels stay on the pixels that they were drawn for."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from mmcv.transforms import Compose, RandomApply, RandomChoice, TestTimeAug
from mmengine.dataset import Compose as DatasetCompose
from PIL import Image

from mmzeg.datasets.position_grid import apply_to_grid, is_not_undone, position_grid, same_random_state, without_labels

Transform = Callable[[dict], dict | None]


def check_pipeline(
    pipeline: Transform, sample: dict, num_classes: int, field: str, is_training: bool, needs_labels: bool
) -> None:
    """Apply a pipeline, nested transforms included, to a sample, and check that labels fit the image at its end.

    In training, labels must move with the image. At test they must stay as they are in their file, as mmseg flips
    predictions back and resizes them to the size of the image's file. The global random state does not change.

    Args:
        pipeline (Transform): A dataset's ``Compose``.
        sample (dict): What the dataset's ``get_data_info`` returns.
        num_classes (int): Number of classes of the dataset.
        field (str): Field of the pipeline in the config, for error messages.
        is_training (bool): Whether the pipeline is for training.
        needs_labels (bool): Whether a sample without labels is an error.

    Raises:
        ValueError: In training the image is transformed before labels are loaded; at test labels are transformed, or
            the image is cropped, rotated or padded; no labels are loaded; a value that is no class becomes a class; or
            as the transforms. Names the field and the transform.
    """
    check = _PipelineCheck('seg_map_path' in sample, num_classes, field, is_training, needs_labels)
    with same_random_state():
        # A copy, as transforms may keep values of the last sample, or a random generator.
        check.apply([copy.deepcopy(pipeline)], _State(copy.deepcopy(sample)))


@dataclass
class _State:
    """A sample on its way through a pipeline.

    Args:
        results (dict): The sample, without labels.
        image_grid (ndarray, optional): Positions (H, W), moved with the image; None before it is loaded.
        label_grid (ndarray, optional): Positions (H, W), moved with the labels; None before they are loaded.
        labels (ndarray, optional): The labels as loaded.
        moved_by (str, optional): The first transform that moved pixels of the image.
        is_evaluated (bool): Whether the metric uses the labels: of test-time augmentation only the first ones.
    """

    results: dict | None
    image_grid: np.ndarray | None = None
    label_grid: np.ndarray | None = None
    labels: np.ndarray | None = None
    moved_by: str | None = None
    is_evaluated: bool = True


class _PipelineCheck:
    def __init__(
        self, has_label_maps: bool, num_classes: int, field: str, is_training: bool, needs_labels: bool
    ) -> None:
        self.has_label_maps = has_label_maps
        self.num_classes = num_classes
        self.field = field
        self.is_training = is_training
        self.needs_labels = needs_labels

    def apply(self, transforms: Sequence[Transform], state: _State) -> None:
        """Apply transforms one after another; where one chooses between others, follow every choice."""
        for index, transform in enumerate(transforms):
            choices = _nested_transforms(transform)
            if choices is not None:
                for number, choice in enumerate(choices):
                    is_evaluated = state.is_evaluated and (number == 0 or not isinstance(transform, TestTimeAug))
                    results = copy.deepcopy(state.results)
                    branch = replace(state, results=results, is_evaluated=is_evaluated)
                    self.apply([*choice, *transforms[index + 1 :]], branch)
                return
            self._apply_one(transform, state)
            # In training, labels that are loaded move with the image.
            if self.is_training and state.label_grid is not None:
                return
            # A sample may be left out. At the end it is packed.
            if state.results is None or (state.image_grid is not None and 'img' not in state.results):
                break
        if self.needs_labels and state.label_grid is None and state.is_evaluated and state.results is not None:
            raise ValueError(self._unlabelled_message())

    def _apply_one(self, transform: Transform, state: _State) -> None:
        if state.label_grid is None:
            # A transform that loads the labels, or the image, does so without labels.
            try:
                results = transform(copy.deepcopy(state.results))
            except KeyError as error:
                # After the image, a transform may need labels, which a grid replaces.
                if state.image_grid is None:
                    raise ValueError(self._missing_field_message(transform, error)) from error
                results = {}
            if results is not None and 'gt_seg_map' in results:
                self._check_loader(transform, state, results)
                state.labels = results['gt_seg_map']
                state.label_grid = position_grid(state.labels.shape[:2])
                state.results = without_labels(results)
            elif state.image_grid is None:
                state.results = results
            else:
                self._move(transform, state)
        else:
            self._move(transform, state)
        if state.image_grid is None and state.results is not None and 'img' in state.results:
            state.image_grid = position_grid(state.results['img'].shape[:2])

    def _check_loader(self, transform: Transform, state: _State, results: dict) -> None:
        """Check that labels, as a transform loads them, fit the image, and their values the classes."""
        moved_by = state.moved_by
        if moved_by is None and 'img' in results and results['img'].shape[:2] != results['gt_seg_map'].shape[:2]:
            moved_by = 'a transform'
        if self.is_training and moved_by:
            name = _name(transform)
            raise ValueError(
                f'{self.field}: {moved_by} changes the image before {name} loads its labels, which then lie on other '
                f'pixels: put {name} right after the transform that loads the image'
            )
        if state.results.get('label_map') and self.has_label_maps:
            self._check_other_values(transform, state.results)

    def _check_other_values(self, transform: Transform, sample: dict) -> None:
        """Let a transform load a label map of values that are no class; none may become one."""
        ignore_index = sample.get('ignore_index', 255)
        class_values = {value + int(sample.get('reduce_zero_label', False)) for value in sample['label_map']}
        values = sorted({*range(256), ignore_index} - class_values)
        dtype = np.uint8 if ignore_index < 256 else np.uint16
        label_map = np.resize(np.array(values, dtype), sample.get('ori_shape', (16, 16))[:2])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'labels.png')
            Image.fromarray(label_map).save(path)
            try:
                labels = transform(copy.deepcopy(dict(sample, seg_map_path=str(path))))['gt_seg_map']
            except Exception:  # of any type: the transform refuses these values, or reads other files than PNG
                return
        is_class = labels < self.num_classes
        if labels.shape == label_map.shape and is_class.any():
            name = _name(transform)
            raise ValueError(
                f'{self.field}: {name} turns the value {label_map[is_class][0]}, which is no class of the dataset, '
                f"into class {labels[is_class][0]}: replace {name} by dict(type='mmzeg.LoadLabels')"
            )

    def _move(self, transform: Transform, state: _State) -> None:
        """Apply a transform to the loaded image, and to the labels if they are loaded, and check what it moves."""
        name = _name(transform)
        # The image: in training it must not move before labels are loaded; at test, so that mmseg can undo it.
        has_moved = partial(_differs, state.image_grid)
        is_wrong = has_moved if self.is_training else is_not_undone
        results, image_grid = self._apply_to_grid(transform, state, state.image_grid, is_wrong)
        if image_grid is not None:
            if not self.is_training and is_not_undone(image_grid, results):
                raise ValueError(
                    f'{self.field}: {name} crops, rotates or pads the image, which mmseg does not undo for '
                    f'predictions: remove {name} (model.data_preprocessor.test_cfg pads images, and undoes it)'
                )
            if has_moved(image_grid, results):
                state.moved_by = state.moved_by or name
            state.image_grid = image_grid
        # Labels that are evaluated.
        if state.label_grid is not None and state.is_evaluated:
            has_moved = partial(_differs, state.label_grid)
            _, label_grid = self._apply_to_grid(transform, state, state.label_grid, has_moved)
            if label_grid is not None and has_moved(label_grid, state.results):
                raise ValueError(
                    f'{self.field}: {name} changes labels, but predictions are compared with those of the original '
                    f'image: load the labels after {name}'
                )
        state.results = results

    def _apply_to_grid(
        self, transform: Transform, state: _State, grid: np.ndarray, is_wrong: Callable[[np.ndarray, dict], bool]
    ) -> tuple[dict | None, np.ndarray | None]:
        try:
            return apply_to_grid(transform, state.results, grid, is_wrong)
        except Exception:  # of any type: a transform may need labels that are classes
            sample = copy.deepcopy(state.results)
            if state.labels is not None:
                sample |= dict(gt_seg_map=state.labels.copy(), seg_fields=[*sample['seg_fields'], 'gt_seg_map'])
        try:
            results = transform(sample)
        except KeyError as error:
            raise ValueError(self._missing_field_message(transform, error)) from error
        return None if results is None else without_labels(results), grid

    def _missing_field_message(self, transform: Transform, error: KeyError) -> str:
        if error.args[0] == 'seg_map_path':
            return self._unlabelled_message()
        return f'{self.field}: {_name(transform)} needs {error}, which no transform before it sets: correct the order'

    def _unlabelled_message(self) -> str:
        if not self.has_label_maps:
            return f'{self.field}: the dataset has no label maps: set data_prefix.seg_map_path to their folder'
        return (
            f"{self.field}: no transform loads labels: add dict(type='mmzeg.LoadLabels') after the transform that "
            'loads the image'
        )


def _nested_transforms(transform: Transform) -> list[Sequence[Transform]] | None:
    """Return the sequences of transforms that a transform chooses from; None for a single transform."""
    if isinstance(transform, TestTimeAug):
        return [[subroutine] for subroutine in transform.subroutines]
    if isinstance(transform, RandomChoice):
        return [[choice] for choice in transform.transforms]
    if isinstance(transform, RandomApply):
        return [[transform.transforms], []]
    if isinstance(transform, (Compose, DatasetCompose)):
        return [transform.transforms]
    return None


def _differs(grid: np.ndarray, new_grid: np.ndarray, results: dict) -> bool:
    return not np.array_equal(grid, new_grid)


def _name(transform: Transform) -> str:
    return getattr(transform, '__name__', type(transform).__name__)
