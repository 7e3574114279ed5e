"""The procedural dataset for mmseg: no files, every scene is drawn from its index."""

import colorsys

from mmseg.datasets import BaseSegDataset

from mmzeg.datasets.world import ABSENT_CLASS, CLASSES, SYNONYMS, Scene, scene_uri
from mmzeg.registry import DATASETS


def _palette(num_colours: int) -> list[list[int]]:
    """Return RGB colours (0..255) whose hues are golden-ratio steps apart, so that neighbours differ clearly."""
    hues = [index * 0.618034 % 1 for index in range(num_colours)]
    return [[round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, 0.9)] for hue in hues]


@DATASETS.register_module()
class WorldDataset(BaseSegDataset):
    """Scenes of 36 object classes on 6 textures; the pipeline starts with ``mmzeg.DrawScene`` instead of loading.

    Args:
        split (str): ``train``, ``val`` or ``test``.
        length (int): Number of scenes.
        size (int): Height and width of a scene, in pixels. Defaults to 128.
        unseen_frequency (float): Frequency of an unseen class relative to a seen one, 0..1. Defaults to 1.
        seed (int): Seed of the world: another seed gives other scenes of the same classes. Defaults to 0.
        kwargs: What mmseg's ``BaseSegDataset`` takes; ``metainfo=dict(classes=SEEN)`` ignores all other classes.

    Raises:
        ValueError: An unknown split, or a length, size, share or seed out of range.
    """

    METAINFO = dict(classes=CLASSES, palette=_palette(len(CLASSES)))

    def __init__(
        self, split: str, length: int, size: int = 128, unseen_frequency: float = 1.0, seed: int = 0, **kwargs
    ) -> None:
        if length < 1:
            raise ValueError(f'a world of {length} scenes: length must be 1 or more')
        self._scenes = [Scene(split, index, size, unseen_frequency, seed) for index in range(length)]
        super().__init__(reduce_zero_label=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return every scene as a sample, with URIs of its image and label map for mmengine's fileio and for errors."""
        return [
            dict(
                img_path=scene_uri(scene, 'images'),
                seg_map_path=scene_uri(scene, 'annotations'),
                scene=scene,
                label_map=self.label_map,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for scene in self._scenes
        ]


@DATASETS.register_module()
class WorldSynonymsDataset(WorldDataset):
    """The same scenes with another vocabulary, for tests across datasets: synonyms, and one class without objects."""

    METAINFO = dict(
        classes=(*(SYNONYMS.get(name, name) for name in CLASSES), ABSENT_CLASS), palette=_palette(len(CLASSES) + 1)
    )
