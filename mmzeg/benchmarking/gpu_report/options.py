"""What a report measures, and with which sizes: complete on a GPU, small on a CPU."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

MASKFORMER = 'mmseg::maskformer/maskformer_{}-d32_8xb2-160k_ade20k-512x512.py'
SAN = 'mmseg::san/san-vit-b16_coco-stuff164k-640x640.py'


@dataclass(frozen=True)
class ReportSizes:
    """Sizes and repeats of every part.

    Args:
        executions (tuple[str, ...]): Modes of ``mmzeg.models.Execution`` in which golden cases are checked.
        world_iterations (int): Training iterations of the model whose precisions are compared.
        world_images (int): Test images on which they are compared.
        min_agreement (float): Least part of labels in half precision that equal those in float32, in percent.
        max_score_difference (float): Greatest difference of a score in half precision, in points.
        backbones (tuple[str, ...]): ``r50`` and ``r101``.
        clip (str): open_clip architecture of the CLIP with random weights.
        num_classes (int, optional): Number of made-up classes that replace the config's.
        cfg_options (dict): Changed fields of ZegFormer's configs, and of MaskFormer's in training.
        san_options (dict): Changed fields of SAN's config.
        crop_size (int): Height and width of training images.
        training_batch (int): Training images per iteration.
        training_iterations (int): Training iterations per model and precision.
        image_size (tuple[int, int]): Height and width of test images.
        test_batches (tuple[int, ...]): Test images per batch.
        repeats (int): Timed batches.
        warmups (int): Batches before them.
    """

    executions: tuple[str, ...] = ('batched', 'tiled')
    world_iterations: int = 300
    world_images: int = 300
    min_agreement: float = 95.0
    max_score_difference: float = 1.5
    backbones: tuple[str, ...] = ('r50', 'r101')
    clip: str = 'ViT-B-16-quickgelu'
    num_classes: int | None = None
    cfg_options: dict = field(default_factory=dict)
    san_options: dict = field(default_factory=dict)
    crop_size: int = 640
    training_batch: int = 4
    training_iterations: int = 60
    image_size: tuple[int, int] = (640, 853)
    test_batches: tuple[int, ...] = (1, 8)
    repeats: int = 10
    warmups: int = 3


COMPLETE = ReportSizes()
# Few names and one template keep SAN's text encoder, which has no other size, short on a CPU.
SMALL = ReportSizes(
    executions=('batched',),
    world_iterations=3,
    world_images=4,
    # After three iterations the scores of classes are nearly tied: 82 % of the labels were equal on a CPU.
    min_agreement=70.0,
    max_score_difference=5.0,
    backbones=('r50',),
    clip='ViT-S-32-alt',
    num_classes=8,
    cfg_options={'model.decode_head.num_queries': 6},
    san_options={
        'model.text_encoder.dataset_name': None,
        'model.text_encoder.vocabulary': ['cat', 'sky', 'car'],
        'model.text_encoder.templates': ['{}'],
        'model.text_encoder.num_layers': 1,
    },
    # On a CPU without bfloat16 instructions, torch 2.1 takes minutes for an iteration of the complete sizes.
    crop_size=32,
    training_batch=2,
    training_iterations=2,
    image_size=(64, 96),
    test_batches=(1, 2),
    repeats=1,
    warmups=1,
)


@dataclass(frozen=True)
class ReportOptions:
    """Where a report measures.

    Args:
        device (str): ``cuda`` or ``cpu``, on which sizes are small.
        golden (Path): Folder of golden cases.
        sizes (ReportSizes, optional): Defaults to ``COMPLETE`` on a GPU and ``SMALL`` on a CPU.
    """

    device: str
    golden: Path
    sizes: ReportSizes | None = None

    def __post_init__(self) -> None:
        if self.sizes is None:
            object.__setattr__(self, 'sizes', SMALL if self.device == 'cpu' else COMPLETE)

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    @property
    def half(self) -> torch.dtype:
        """The half precision of mixed-precision training: float16, on a CPU bfloat16."""
        return torch.bfloat16 if self.torch_device.type == 'cpu' else torch.float16
