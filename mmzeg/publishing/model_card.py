"""The model card of a published model, as model hubs show it."""

import json
import shlex

import yaml

from mmzeg.utils.tables import format_score

_TAGS = ('zero-shot-segmentation', 'open-vocabulary', 'semantic-segmentation', 'zegformer', 'mmsegmentation')


def model_card(file_name: str, num_bytes: int, metadata: dict[str, str], license_name: str) -> str:
    """Return a model card in Markdown, with the YAML header that hubs read.

    Args:
        file_name (str): Of the published model, in the same folder.
        num_bytes (int): Its size.
        metadata (dict[str, str]): The texts that it holds.
        license_name (str): Licence of the weights, as hubs abbreviate it.
    """
    header = dict(license=license_name, library_name='mmzeg', pipeline_tag='image-segmentation', tags=list(_TAGS))
    classes = json.loads(metadata['classes'])
    num_trained = len(classes['trained'])
    paragraphs = [
        f'---\n{yaml.safe_dump(header, sort_keys=False)}---',
        f'# {file_name.removesuffix(".safetensors")}',
        'ZegFormer (Decoupling Zero-Shot Semantic Segmentation, CVPR 2022) for mmzeg '
        f'{metadata["mmzeg_version"]}. It predicts class-agnostic masks, then classifies each mask by comparing its '
        f'embedding with text embeddings of class names. It was trained on {num_trained} classes. `{file_name}` '
        f'({num_bytes / 2**20:.1f} MiB) holds weights and config; the config is data, and no code in it is run.',
        '## Usage',
        _usage(file_name, classes),
        '## Classes',
        'Other class names may be given at every call. These are the defaults:',
        '\n'.join(_class_list(name, classes[name]) for name in ('seen', 'unseen') if classes[name]),
        '## Results',
        _results(json.loads(metadata.get('results', 'null'))),
        '## CLIP',
        '\n'.join(_encoder_line(encoder) for encoder in json.loads(metadata['text_encoders'])),
        '## Limits',
        'Every pixel gets one of the given class names, also where none fits. Names in other languages than that of '
        "CLIP's training classify worse. Seen classes are segmented better than unseen ones. Biases of CLIP's training "
        'data are also those of this model.',
    ]
    return '\n\n'.join(paragraphs) + '\n'


def _usage(file_name: str, classes: dict) -> str:
    names = (classes['unseen'][:1] + classes['seen'][:2]) or classes['trained'][:2]
    return (
        '```python\n'
        'from mmzeg.apis import ZeroShotInferencer\n\n'
        f'inferencer = ZeroShotInferencer({file_name!r})\n'
        f"result = inferencer('image.jpg', classes={names!r})\n"
        "label_map = result['predictions'][0]['label_map']  # (H, W), indices of classes\n"
        '```\n\n'
        '```bash\n'
        f'python tools/demo.py {shlex.quote(file_name)} image.jpg --out segmented '
        f'--classes {shlex.quote("; ".join(names))}\n'
        '```'
    )


def _class_list(name: str, names: list[str]) -> str:
    return f'- {len(names)} {name}: {"; ".join(names)}'


def _results(results: dict | None) -> str:
    if results is None:
        return 'No report of a test was published with this model.'
    metrics = results['metrics']
    versions = ', '.join(f'{name} {version}' for name, version in sorted(results['packages'].items()))
    datasets = '; '.join(', '.join(f'{key}={value}' for key, value in item.items()) for item in results['datasets'])
    return (
        f'| {" | ".join(metrics)} |\n'
        f'|{"---|" * len(metrics)}\n'
        f'| {" | ".join(format_score(value) for value in metrics.values())} |\n\n'
        f'In percent, from `report.json` of `tools/test.py` for this checkpoint. Dataset: {datasets}. '
        f'Packages: {versions}.'
    )


def _encoder_line(encoder: dict) -> str:
    reference = encoder.get('pretrained') or encoder.get('path')
    if not isinstance(reference, dict):
        return f'- open_clip `{encoder["model"]}`, weights `{reference}`, downloaded on first use'
    if 'configs_file' in reference:
        return f"- `{reference['configs_file']}` of mmzeg's configs, fingerprint `{reference['fingerprint']}`"
    name = reference['file'].replace('\\', '/').rpartition('/')[2]
    return f'- `{name}`, fingerprint `{reference["fingerprint"]}`: put it next to the model'
