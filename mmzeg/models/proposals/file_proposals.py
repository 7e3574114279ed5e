"""Class-agnostic masks from files, as tools of SAM and others write them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmzeg.models.image_sizes import valid_size
from mmzeg.models.proposals.mask_files import find_mask_file, read_masks
from mmzeg.models.proposals.proposal_batch import ProposalBatch, ProposalError, binary_proposals
from mmzeg.registry import MODELS

_FLIP_AXES = dict(horizontal=(1,), vertical=(0,), diagonal=(0, 1))


@MODELS.register_module()
class FileProposals(BaseModule):
    """Read the masks of every image from a file with the image's name, see ``mask_files.read_masks``.

    Pixels that no mask covers are one more mask. An image without masks is therefore one segment.

    Args:
        folder (str): Folder of ``NAME.json``, ``NAME.png`` or ``NAME/`` for an image NAME.jpg.
        image_root (str, optional): Folder of the images. The subfolders of an image below it are also those of its
            masks. Defaults to None: masks are directly in ``folder``.
    """

    def __init__(self, folder: str, image_root: str | None = None) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.image_root = None if image_root is None else Path(image_root).absolute()

    @property
    def preprocessor(self) -> dict:
        """Config of the data preprocessor: images stay as they are, but RGB."""
        return dict(type='mmzeg.SegDataPreProcessor', bgr_to_rgb=True)

    @torch.no_grad()
    def forward(self, inputs: Tensor, batch_img_metas: list[dict]) -> ProposalBatch:
        """Read the masks of a batch.

        Args:
            inputs (Tensor): (B, 3, H, W), of which only the size is used.
            batch_img_metas (list[dict]): mmseg's meta information, with ``img_path``.

        Raises:
            FileNotFoundError: No such folder.
            ProposalError: An image has no file name, no masks, or masks that cannot be read; names the file.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(f'{self.folder}: no such folder of masks; set model.proposals.folder')
        images = []
        for index, meta in enumerate(batch_img_metas):
            try:
                masks = self._read(meta)
                proposals = binary_proposals(
                    masks, meta['ori_shape'][:2], valid_size(meta, inputs), inputs.shape[-2:], inputs.device
                )
            except (OSError, ValueError) as error:
                raise ProposalError(str(error), index) from error
            images.append(proposals)
        return ProposalBatch.of_images(images)

    def _read(self, meta: dict) -> Iterator[tuple[Tensor, float]]:
        """Yield the masks (H, W) bool of one image, flipped as the image, with their scores."""
        image = meta.get('img_path')
        if image is None:
            raise ValueError(
                'an array, or a frame of a video, has no file name by which to find its masks: give image files'
            )
        # Name of the image, with its subfolders
        path = Path(image).absolute()
        if self.image_root is not None and path.is_relative_to(self.image_root):
            name = path.relative_to(self.image_root).with_suffix('').as_posix()
        else:
            name = path.stem
        axes = _FLIP_AXES[meta['flip_direction']] if meta.get('flip') else ()
        for mask, score in read_masks(find_mask_file(self.folder, name), str(image), tuple(meta['ori_shape'][:2])):
            yield torch.from_numpy(np.flip(mask, axes).copy()), score
