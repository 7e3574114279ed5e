"""The procedural world as a dataset: nothing on disk, every scene drawn from its number."""

import colorsys

from mmseg.datasets import BaseSegDataset

from mmzeg.datasets.world import CLASSES, OUTSIDE, SYNONYMS, Scene, scene_name
from mmzeg.registry import DATASETS


def _palette(count: int) -> list[list[int]]:
    """Colours of unlike hue for neighbours: steps of the golden ratio around the circle."""
    hues = [index * 0.618034 % 1 for index in range(count)]
    return [[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 0.9)] for hue in hues]


@DATASETS.register_module()
class WorldDataset(BaseSegDataset):
    """Scenes of 36 kinds of objects on 6 textures; the pipeline starts with ``mmzeg.DrawScene`` in place of loading.

    Args:
        split (str): ``train``, ``val`` or ``test``.
        length (int): Number of scenes.
        size (int): Height and width of a scene, in pixels. Defaults to 128.
        unseen_share (float): How often an unseen kind is drawn where a seen one is drawn once. Defaults to 1.
        seed (int): Another world of the same kinds. Defaults to 0.
        kwargs: What mmseg's ``BaseSegDataset`` takes; as anywhere, ``metainfo=dict(classes=SEEN)`` ignores the rest.

    Raises:
        ValueError: An unknown split, or a length, size, share or seed out of range.
    """

    METAINFO = dict(classes=CLASSES, palette=_palette(len(CLASSES)))

    def __init__(
        self, split: str, length: int, size: int = 128, unseen_share: float = 1.0, seed: int = 0, **kwargs
    ) -> None:
        if length < 1:
            raise ValueError(f'a world of {length} scenes: length must be 1 or more')
        self._scenes = [Scene(split, index, size, unseen_share, seed) for index in range(length)]
        super().__init__(reduce_zero_label=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Every scene, and the names under which mmengine's fileio reads it and an error speaks of it."""
        return [
            dict(
                img_path=scene_name(scene, 'images'),
                seg_map_path=scene_name(scene, 'annotations'),
                scene=scene,
                label_map=self.label_map,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for scene in self._scenes
        ]


@DATASETS.register_module()
class WorldSynonymsDataset(WorldDataset):
    """The same scenes under an unlike vocabulary, for tests across datasets: other words, and one that nothing is."""

    METAINFO = dict(
        classes=(*(SYNONYMS.get(name, name) for name in CLASSES), OUTSIDE), palette=_palette(len(CLASSES) + 1)
    )
