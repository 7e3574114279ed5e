"""Write a published model: weights, config, class names and results in one safetensors file, with a model card."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from safetensors.torch import save
from torch import Tensor

import mmzeg
from mmzeg.apis import ZeroShotInferencer
from mmzeg.datasets.transforms.loaders import is_loader
from mmzeg.publishing.config_check import check_published_config, registered_classes
from mmzeg.publishing.config_json import dump_config
from mmzeg.publishing.config_text import parse_config_text
from mmzeg.publishing.encoder_files import is_encoder, map_encoders, pack_encoder, unpack_encoder
from mmzeg.publishing.model_card import model_card
from mmzeg.publishing.published_model import published_build
from mmzeg.publishing.results import read_results
from mmzeg.utils.atomic import atomic_write
from mmzeg.utils.run_checks import datasets_of
from mmzeg.utils.weight_files import load_weight_file, read_state
from mmzeg.vocabulary import Vocabulary

# Fields that a trained model does not need: pretrained weights, and what only losses read.
_TRAINING_FIELDS = ('init_cfg', 'pretrained', 'class_weight')


class PublishedModel(NamedTuple):
    """The files of a published model."""

    path: Path
    card: Path


def publish(
    checkpoint: str | Path,
    out: str | Path,
    config: Config | None = None,
    report: str | Path | None = None,
    license_name: str = 'unknown',
    overwrite: bool = False,
) -> PublishedModel:
    """Write a checkpoint as a published model.

    Args:
        checkpoint (str | Path): A weight file. EMA weights are published if the training kept them, as MMEngine tests
            them too. Optimizer and message hub are left out.
        out (str | Path): A folder (one that exists, or with a slash at its end), or path and name of the model without
            suffix. The first eight digits of the file's SHA-256 are added to the name, as OpenMMLab does.
        config (Config, optional): Defaults to the config that the checkpoint holds, which is read as data.
        report (str | Path, optional): ``report.json`` of ``tools/test.py``. Defaults to the one in the checkpoint's
            folder, if it is of this checkpoint.
        license_name (str): Licence of the weights, as model hubs abbreviate it. Defaults to ``unknown``.
        overwrite (bool): Whether to replace an existing model card. Defaults to False.

    Returns:
        PublishedModel: The model and its card: ``README.md`` in a folder, else next to the model under its name.

    Raises:
        FileNotFoundError: No such checkpoint, report, or file of a text encoder.
        FileExistsError: The model card exists.
        ValueError: A corrupted checkpoint, or one without config; a config that cannot be published, such as one with
            classes that are not part of mmzeg, mmseg, mmdet or mmcv; or a report of another checkpoint.
    """
    # Read the checkpoint, its config and its results.
    checkpoint = Path(checkpoint)
    meta = load_weight_file(checkpoint).get('meta') or {}
    config_text = _config_text(meta, checkpoint) if config is None else config.pretty_text
    results = read_results(checkpoint, report)
    # Load the weights into the model, exactly as they are loaded when the published model is used.
    try:
        fields = parse_config_text(config_text) if config is None else config.to_dict()
        published_config = portable_config(fields)
        check_published_config(published_config)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{checkpoint}: its config cannot be published: {error}') from error
    loadable = map_encoders(published_config, partial(unpack_encoder, folder=checkpoint.parent))
    with published_build(checkpoint, read_state(checkpoint)):
        inferencer = ZeroShotInferencer(Config(loadable), checkpoint, device='cpu')
    # Describe the model, then write the files.
    metadata = _metadata(published_config, config_text, inferencer, results)
    folder, name, is_folder = _target(out, meta, checkpoint)
    content = serialize(inferencer.model.state_dict(), metadata)
    path = folder / f'{name}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors'
    card = folder / 'README.md' if is_folder else path.with_suffix('.md')
    if card.exists() and not overwrite:
        raise FileExistsError(f'{card}: exists already; add --overwrite to replace it, or give another folder')
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial_path: partial_path.write_bytes(content))
    text = model_card(path.name, len(content), metadata, license_name)
    atomic_write(card, lambda partial_path: partial_path.write_text(text, encoding='utf-8'))
    return PublishedModel(path, card)


def portable_config(fields: dict) -> dict:
    """Return what a published model has of a complete config, see ``check_published_config``.

    Vocabularies that are files become lists, files of text encoders become references, and the transforms that load a
    dataset's files are left out, as are auxiliary heads.

    Raises:
        FileNotFoundError: No such file of a vocabulary or a text encoder.
        KeyError, ValueError: A field is missing or wrong.
    """
    model = map_encoders(_without_training_fields(fields['model']), pack_encoder)
    model.pop('auxiliary_head', None)
    classifier = model['decode_head']['classifier']
    for name in ('vocabulary', 'train_vocabulary'):
        if classifier.get(name) is not None:
            vocabulary = Vocabulary.build(classifier[name])
            classifier[name] = dict(classes=list(vocabulary.names), unseen=list(vocabulary.unseen))
            if vocabulary.prompts is not None:
                prompts = vocabulary.prompts
                classifier[name]['prompts'] = prompts if isinstance(prompts, str) else list(prompts)
    dataset, *_ = datasets_of(fields['test_dataloader']['dataset'])
    pipeline = [transform for transform in dataset['pipeline'] if not _is_loader(transform)]
    return dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline)))


def serialize(state: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the content of a safetensors file, the same for the same weights and texts.

    The library writes texts in a random order, so that the file's hash would change with every run.
    """
    # Copies, as the library refuses tensors that share memory.
    data = save({name: tensor.detach().clone().contiguous() for name, tensor in state.items()})
    length = int.from_bytes(data[:8], 'little')
    header = dict(__metadata__=metadata) | json.loads(data[8 : 8 + length])
    text = json.dumps(header, separators=(',', ':')).encode()
    # The tensors begin at a multiple of eight bytes.
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text + data[8 + length :]


def _is_loader(transform: dict) -> bool:
    # Not by MMEngine's look-up: the config may be that of a checkpoint from another person.
    return any(is_loader(dict(type=kind)) for kind in registered_classes(transform['type']))


def _config_text(meta: dict, checkpoint: Path) -> str:
    if not isinstance(meta.get('cfg'), str):
        raise ValueError(f'{checkpoint}: holds no config, as converted weights do; give it by --config')
    return meta['cfg']


def _without_training_fields(value: object) -> object:
    """Return a copy of a config without the fields that only a training needs; text encoders stay as they are."""
    if isinstance(value, dict) and not is_encoder(value):
        fields = {key: item for key, item in value.items() if key not in _TRAINING_FIELDS}
        return {key: _without_training_fields(item) for key, item in fields.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_training_fields(item) for item in value)
    return value


def _metadata(config: dict, config_text: str, inferencer: ZeroShotInferencer, results: dict | None) -> dict[str, str]:
    vocabulary = inferencer.model.vocabulary
    classes = dict(seen=vocabulary.seen, unseen=vocabulary.unseen, trained=inferencer.train_vocabulary.names)
    encoders = []
    map_encoders(config['model'], lambda encoder: encoders.append(encoder) or encoder)
    distinct = {json.dumps(encoder, sort_keys=True): encoder for encoder in encoders}
    metadata = dict(
        format='pt',
        mmzeg_version=mmzeg.__version__,
        config=dump_config(config),
        config_text=config_text,
        classes=json.dumps(classes),
        text_encoders=json.dumps(list(distinct.values()), sort_keys=True),
    )
    return metadata if results is None else metadata | dict(results=json.dumps(results))


def _target(out: str | Path, meta: dict, checkpoint: Path) -> tuple[Path, str, bool]:
    """Return folder and name of the model, and whether only the folder was given."""
    path = Path(out)
    if path.is_dir() or str(out).endswith('/'):
        # MMEngine's experiment is called CONFIG_DATE_TIME.
        experiment = re.sub(r'_\d{8}_\d{6}$', '', str(meta.get('experiment_name') or ''))
        return path, re.sub(r'[^\w.-]', '_', experiment) or checkpoint.stem, True
    return path.parent, path.name.removesuffix('.safetensors'), False
