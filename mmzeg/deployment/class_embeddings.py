"""Text embeddings of class names for an exported model: make them, and add names to its ``names.npz``."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmzeg.apis import ZeroShotInferencer
from mmzeg.deployment.onnx_runner import NAMES
from mmzeg.models import ZegFormer
from mmzeg.publishing.published_model import read_model_config
from mmzeg.utils.atomic import atomic_write
from mmzeg.vocabulary import Vocabulary


def class_embeddings(model: ZegFormer, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Embed class names for the text classifier and for the scorer.

    Args:
        model (ZegFormer): The model; its vocabulary is the same afterwards.
        names (Sequence[str]): C class names.

    Returns:
        dict[str, np.ndarray]: ``names`` (C,); unit text embeddings ``segments`` (C, d) and, with a scorer, ``clip``
        (C, e).
    """
    previous = model.vocabulary
    model.set_vocabulary(Vocabulary(names, prompts=previous.prompts))
    try:
        text = model.decode_head.classifier.text_embeddings(training=False)
    finally:
        model.set_vocabulary(previous)
    embeddings = dict(names=np.array(names), segments=text.numpy())
    if model.scorer is not None:
        embeddings['clip'] = model.scorer.clip.text_embeddings(names, model.scorer.prompts).numpy()
    return embeddings


def write_class_embeddings(path: Path, embeddings: dict[str, np.ndarray]) -> None:
    """Write the arrays of ``class_embeddings`` to an .npz file."""

    def write(partial: Path) -> None:
        # Given a path, NumPy would append a suffix.
        with partial.open('wb') as file:
            np.savez(file, **embeddings)

    atomic_write(path, write)


def add_class_names(
    config: str, folder: Path, names: Sequence[str], cfg_options: dict | None = None
) -> tuple[int, int]:
    """Add class names to an exported folder. No graph changes, and no checkpoint is needed.

    Args:
        config (str): The config that was exported: its file, or its name in ``configs``.
        folder (Path): The exported folder.
        names (Sequence[str]): Class names; those that the folder already has are left out.
        cfg_options (dict, optional): ``--cfg-options`` of the export.

    Returns:
        tuple[int, int]: The number of added names, and of all names.

    Raises:
        FileNotFoundError: The folder has no ``names.npz``.
        ValueError: The config embeds names differently from the one that was exported.
    """
    # Read the names that the folder has
    path = folder / NAMES
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; make the folder with tools/deployment/export_onnx.py')
    with open(path, 'rb') as stream, np.load(stream, allow_pickle=False) as file:
        known = {key: file[key] for key in file.files}
    new_names = [name for name in dict.fromkeys(names) if name not in known['names']]
    # Embed the new names, and the first known one again as a check of the config
    with warnings.catch_warnings():
        # Text embeddings do not depend on the checkpoint.
        warnings.filterwarnings('ignore', message='Checkpoint is not loaded')
        model = ZeroShotInferencer(read_model_config(config, cfg_options), device='cpu').model
    reference_name = str(known['names'][0])
    embeddings = class_embeddings(model, [reference_name, *new_names])
    for key in known.keys() - {'names'}:
        same_form = key in embeddings and embeddings[key].shape[1:] == known[key].shape[1:]
        if not same_form or not np.allclose(embeddings[key][0], known[key][0], atol=1e-4):
            raise ValueError(
                f'{config} gives {reference_name!r} another embedding than {path}: use the config that was exported, '
                'with its prompts and its CLIP'
            )
    # Write all
    write_class_embeddings(path, {key: np.concatenate([known[key], embeddings[key][1:]]) for key in known})
    return len(new_names), len(known['names']) + len(new_names)
