"""Drawings of a test keep the subfolders of their images."""

from types import SimpleNamespace

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmzeg.engine import SegVisualizationHook


def test_images_of_subfolders_keep_their_drawings(tmp_path):
    """Named by file name, two of four images in two folders were left, in silence; GIF was a traceback."""
    names = ['seq0/0.gif', 'seq0/1.png', 'seq1/0.gif', '2.png']
    outputs = []
    for name in names:
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (12, 8)).save(path)
        labels = PixelData(data=torch.zeros(1, 8, 12, dtype=torch.int64))
        outputs.append(SegDataSample(metainfo=dict(img_path=str(path)), pred_sem_seg=labels))
    # The hook draws by the newest visualizer.
    backends = [dict(type='LocalVisBackend')]
    visualizer = SegLocalVisualizer.get_instance(tmp_path.name, vis_backends=backends, save_dir=str(tmp_path))
    visualizer.dataset_meta = dict(classes=['sky'], palette=[[1, 2, 3]])
    hook = SegVisualizationHook(draw=True, interval=1)
    dataset = SimpleNamespace(data_prefix=dict(img_path=str(tmp_path / 'images')))
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    hook.after_test_iter(SimpleNamespace(test_loop=loop), 0, {}, outputs)
    folder = tmp_path / 'vis_data/vis_image'
    drawn = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))
    assert drawn == [
        'seq0/test_0.gif_0.png',
        'seq0/test_1.png_0.png',
        'seq1/test_0.gif_0.png',
        'test_2.png_0.png',
    ]
