"""Scenes under names that are read as files are: what opens pictures by mmengine's fileio opens these too."""

import io
import re

from mmengine.fileio import BaseStorageBackend, register_backend
from PIL import Image

from mmzeg.datasets.world.scenes import Scene, draw_scene

KINDS = ('images', 'annotations')
_NAME = re.compile(r'world://(\d+)/(\d+)/([\d.e-]+)/(images|annotations)/(\w+)/(\d+)\.png')


def scene_name(scene: Scene, kind: str) -> str:
    """``world://SEED/SIZE/UNSEEN_SHARE/KIND/SPLIT/INDEX.png``; ``kind`` is ``images`` or ``annotations``."""
    return f'world://{scene.seed}/{scene.size}/{scene.unseen_share}/{kind}/{scene.split}/{scene.index:06d}.png'


@register_backend('world', prefixes='world')
class WorldBackend(BaseStorageBackend):
    """Draws what a name of ``scene_name`` stands for; so mmseg's hooks show scenes of which no file is kept."""

    def get(self, filepath: str) -> bytes:
        """A PNG: the picture of a scene (RGB), or its label map (grey, indices of ``CLASSES``).

        Raises:
            FileNotFoundError: No such name.
            ValueError: What ``Scene`` refuses.
        """
        found = _NAME.fullmatch(str(filepath))
        if found is None:
            raise FileNotFoundError(f'{filepath}: not a name of a scene, world://SEED/SIZE/SHARE/KIND/SPLIT/INDEX.png')
        seed, size, share, kind, split, index = found.groups()
        drawn = draw_scene(Scene(split, int(index), int(size), float(share), int(seed)))
        file = io.BytesIO()
        Image.fromarray(drawn[KINDS.index(kind)]).save(file, format='PNG')
        return file.getvalue()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """No text is kept in the world."""
        raise ValueError(f'{filepath}: a PNG, not a text')
