"""URIs of scenes, which mmengine's fileio opens like files."""

import io
import re

from mmengine.fileio import BaseStorageBackend, register_backend
from PIL import Image

from mmzeg.datasets.world.scenes import Scene, draw_scene

KINDS = ('images', 'annotations')
_URI = re.compile(r'world://(\d+)/(\d+)/([\d.e-]+)/(images|annotations)/(\w+)/(\d+)\.png')


def scene_uri(scene: Scene, kind: str) -> str:
    """Return ``world://SEED/SIZE/UNSEEN_SHARE/KIND/SPLIT/INDEX.png``; ``kind`` is ``images`` or ``annotations``."""
    return f'world://{scene.seed}/{scene.size}/{scene.unseen_frequency}/{kind}/{scene.split}/{scene.index:06d}.png'


@register_backend('world', prefixes='world')
class WorldBackend(BaseStorageBackend):
    """Draw the scene of a URI, so that mmseg's hooks can show scenes that are no files."""

    def get(self, filepath: str) -> bytes:
        """Return a PNG: the image of a scene (RGB), or its label map (grey, indices of ``CLASSES``).

        Args:
            filepath (str): A URI as ``scene_uri`` returns it.

        Raises:
            FileNotFoundError: Not the URI of a scene.
            ValueError: A field that ``Scene`` refuses.
        """
        match = _URI.fullmatch(str(filepath))
        if match is None:
            raise FileNotFoundError(
                f'{filepath}: not the URI of a scene, world://SEED/SIZE/UNSEEN_SHARE/KIND/SPLIT/INDEX.png'
            )
        seed, size, unseen_frequency, kind, split, index = match.groups()
        scene = Scene(split, int(index), int(size), float(unseen_frequency), int(seed))
        image_and_labels = draw_scene(scene)
        file = io.BytesIO()
        Image.fromarray(image_and_labels[KINDS.index(kind)]).save(file, format='PNG')
        return file.getvalue()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Refuse: a scene is a PNG."""
        raise ValueError(f'{filepath}: a PNG, not a text')
