"""Published models: the same predictions from one file, reproducible bytes, a model card, and errors in one line."""

import hashlib
import json
import re
import shlex
import sys

import numpy as np
import pytest
import torch
import yaml
from harmful import Harmful
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tool_loading import load_tool

import mmzeg
from mmzeg.apis import ZeroShotInferencer
from mmzeg.clip.text_cache import content_hash
from mmzeg.datasets.world import SEEN, UNSEEN, Scene, draw_scene
from mmzeg.publishing.publish import publish
from mmzeg.publishing.published_model import read_published_config
from mmzeg.utils.config_files import read_config

CONFIG = 'zegformer_r18_world'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint of random weights with what MMEngine's runner saves, and the report of its test."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('training')
    cfg = read_config(CONFIG)
    model = ZeroShotInferencer(cfg, device='cpu').model
    weights = {f'module.{name}': weight for name, weight in model.state_dict().items()}
    path = folder / 'iter_2.pth'
    meta = dict(cfg=cfg.pretty_text, experiment_name='my_model_20260101_120000', dataset_meta=dict(classes=SEEN))
    optimizer = dict(state={0: dict(exp_avg=torch.ones(2**16))})
    # MMEngine's EMA hook saves the averaged weights as state_dict, and the trained ones as the other.
    trained = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    torch.save(dict(state_dict=weights, ema_state_dict=trained, optimizer=optimizer, meta=meta), path)
    report = dict(
        metrics=dict(seen_mIoU=47.665, unseen_mIoU=None),
        classes=[dict(name='sky', mark='seen', IoU=1.5, Acc=2.5)],
        checkpoint=dict(path=str(path), hash=content_hash(path)),
        config_hash='abc',
        packages=dict(torch='2.1.2'),
        config=dict(test_dataloader=dict(dataset=dict(type='mmzeg.WorldDataset', split='test', pipeline=[]))),
    )
    (folder / 'report.json').write_text(json.dumps(report))
    return path


@pytest.fixture(scope='module')
def published(checkpoint, tmp_path_factory):
    return publish(checkpoint, tmp_path_factory.mktemp('published') / 'world', license_name='apache-2.0')


@pytest.fixture(scope='module')
def image():
    return np.ascontiguousarray(draw_scene(Scene('test', 0, 96))[0][..., ::-1])


def test_the_file_alone_gives_the_same_predictions(checkpoint, published, image):
    one_file = ZeroShotInferencer(published.path, device='cpu')
    two_files = ZeroShotInferencer(CONFIG, checkpoint, device='cpu')
    for classes in (None, ['umbrella, parasol', 'sky']):
        ours, theirs = (inferencer(image, classes, return_scores=True) for inferencer in (one_file, two_files))
        (prediction,), (expected,) = ours['predictions'], theirs['predictions']
        assert np.array_equal(prediction['scores'], expected['scores'])
        assert np.array_equal(prediction['label_map'], expected['label_map'])
        assert (prediction['classes'], prediction['unseen']) == (expected['classes'], expected['unseen'])
    assert one_file.train_vocabulary == two_files.train_vocabulary


def test_the_file_holds_weights_and_texts(checkpoint, published):
    digest = hashlib.sha256(published.path.read_bytes()).hexdigest()
    assert published.path.name == f'world-{digest[:8]}.safetensors'
    weights = torch.load(checkpoint)['state_dict']
    with safe_open(published.path, 'pt') as file:
        metadata = file.metadata()
        assert {f'module.{name}' for name in file.keys()} == weights.keys()  # noqa: SIM118, a file is no dict
        for name in file.keys():  # noqa: SIM118
            assert torch.equal(file.get_tensor(name), weights[f'module.{name}'])
    assert metadata['format'] == 'pt' and metadata['mmzeg_version'] == mmzeg.__version__
    assert metadata['config_text'] == read_config(CONFIG).pretty_text
    assert json.loads(metadata['classes']) == dict(seen=list(SEEN), unseen=list(UNSEEN), trained=list(SEEN))
    (encoder,) = json.loads(metadata['text_encoders'])
    assert encoder['pretrained']['configs_file'] == '_base_/models/world_clip/open_clip_model.safetensors'
    assert re.fullmatch(r'None:[0-9a-f]{64}:[0-9a-f]{64}', encoder['pretrained']['fingerprint'])
    results = json.loads(metadata['results'])
    assert results['metrics'] == dict(seen_mIoU=47.665, unseen_mIoU=None) and results['config_hash'] == 'abc'
    assert results['datasets'] == [dict(type='mmzeg.WorldDataset', split='test')]


def test_published_again_it_has_the_same_name(checkpoint, published, tmp_path):
    """In a folder: named by the experiment, with a README.md, which is not replaced."""
    again = publish(checkpoint, tmp_path, read_config(CONFIG), checkpoint.with_name('report.json'))
    assert again.path.name == published.path.name.replace('world', 'my_model')
    assert again.path.read_bytes() == published.path.read_bytes()
    assert again.card == tmp_path / 'README.md'
    assert [path.name for path in sorted(tmp_path.iterdir())] == ['README.md', again.path.name]
    with pytest.raises(FileExistsError, match='README.md: exists already; add --overwrite'):
        publish(checkpoint, tmp_path)
    assert publish(checkpoint, tmp_path, overwrite=True) == again
    assert publish(checkpoint, f'{tmp_path}/new/').card == tmp_path / 'new/README.md'


def test_model_card(published, image, tmp_path, monkeypatch, capsys):
    """It has the header that hubs read, the classes and the results; its Python code runs."""
    card = published.card.read_text()
    _, header, text = card.split('---\n', 2)
    header = yaml.safe_load(header)
    assert header['license'] == 'apache-2.0' and header['library_name'] == 'mmzeg'
    assert header['pipeline_tag'] == 'image-segmentation' and 'zero-shot-segmentation' in header['tags']
    assert '- 34 seen: airplane; rook' in text and '- 8 unseen: umbrella' in text
    assert '| seen_mIoU | unseen_mIoU |\n|---|---|\n| 47.66 | - |' in text
    assert 'Dataset: type=mmzeg.WorldDataset, split=test. Packages: torch 2.1.2.' in text
    assert '`_base_/models/world_clip/open_clip_model.safetensors` of mmzeg' in text
    # As a user would run it, in the folder of the model.
    (tmp_path / published.path.name).symlink_to(published.path)
    Image.fromarray(image).save(tmp_path / 'image.jpg')
    monkeypatch.chdir(tmp_path)
    code = re.search(r'```python\n(.*?)```', text, re.S)[1]
    exec(compile(code, 'card', 'exec'), namespace := {})
    assert namespace['label_map'].shape == image.shape[:2]
    # And by the tool: a published model stands for config and checkpoint.
    command = re.search(r'```bash\npython tools/demo.py (.*?)\n```', text, re.S)[1]
    demo = load_tool('tools/demo.py')
    monkeypatch.setattr(sys, 'argv', ['demo.py', *shlex.split(command), '--device', 'cpu', '--save-masks'])
    demo.main()
    with Image.open('segmented/masks/image.png') as mask:
        assert mask.size == image.shape[1::-1]


def test_options_change_a_published_config(published):
    cfg = read_published_config(published.path, {'model.fusion.gamma': 0.3, 'model.scorer.crop_mode': 'crop'})
    assert cfg.model.fusion.gamma == 0.3 and cfg.model.scorer.crop_mode == 'crop'
    with pytest.raises(ValueError, match='--cfg-options model.type.depth: no such field in .*world-'):
        read_published_config(published.path, {'model.type.depth': 1})


def test_checkpoints_without_config_or_of_another_model(checkpoint, tmp_path):
    content = torch.load(checkpoint)
    torch.save(dict(state_dict=content['state_dict']), tmp_path / 'converted.pth')
    with pytest.raises(
        ValueError, match='converted.pth: holds no config, as converted weights do; give it by --config'
    ):
        publish(tmp_path / 'converted.pth', tmp_path / 'model')
    publish(tmp_path / 'converted.pth', tmp_path / 'model', read_config(CONFIG))
    with pytest.raises(ValueError, match='the checkpoint is of another width or backbone'):
        publish(checkpoint, tmp_path / 'other', read_config(CONFIG, {'model.decode_head.num_queries': 5}))


@pytest.mark.parametrize(
    'text, message',
    [
        (
            "import os\nos.system('touch harmed')",
            'its config cannot be published: line 1 of the config is no plain data',
        ),
        ("model = dict(type='os.system', command='touch harmed')", "its config cannot be published: '"),
    ],
)
def test_a_config_in_a_checkpoint_is_not_run(checkpoint, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint)
    content['meta']['cfg'] = text
    torch.save(content, 'hostile.pth')
    with pytest.raises(ValueError, match=f'hostile.pth: {message}'):
        publish('hostile.pth', 'model')
    evil = "test_dataloader = dict(dataset=dict(pipeline=[dict(type='evil.Load')]))"
    content['meta']['cfg'] = f'{read_config(CONFIG).pretty_text}\n{evil}'
    torch.save(content, 'hostile.pth')
    (tmp_path / 'evil.py').write_text("open('harmed', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot be published: pipeline.0.type='evil.Load' is refused"):
        publish('hostile.pth', 'model')
    assert not (tmp_path / 'harmed').exists()


def test_custom_components_stay_with_their_config(checkpoint, tmp_path):
    cfg = read_config(CONFIG, {'model.scorer.type': 'MyScorer'})
    with pytest.raises(ValueError, match="model.scorer.type='MyScorer' is refused: it is no registered part"):
        publish(checkpoint, tmp_path / 'model', cfg)


def test_reports(checkpoint, published, tmp_path):
    """A report of another checkpoint is refused, or ignored if it only lies in the same folder."""
    report = json.loads(checkpoint.with_name('report.json').read_text())
    report['checkpoint']['hash'] = 'other'
    other = tmp_path / 'report.json'
    other.write_text(json.dumps(report))
    with pytest.raises(ValueError, match='report.json: a report of another checkpoint than'):
        publish(checkpoint, tmp_path / 'a', report=other)
    with pytest.raises(FileNotFoundError, match='gone.json: no such report'):
        publish(checkpoint, tmp_path / 'a', report='gone.json')
    other.write_text('{"metrics": {}}')
    with pytest.raises(ValueError, match='report.json: not a report of tools/test.py; test again'):
        publish(checkpoint, tmp_path / 'a', report=other)
    (tmp_path / 'iter_2.pth').symlink_to(checkpoint)
    other.write_text(json.dumps(report))
    without = publish(tmp_path / 'iter_2.pth', tmp_path / 'a')
    assert 'No report of a test was published' in without.card.read_text()


def test_no_published_model(checkpoint, tmp_path):
    save_file(dict(weight=torch.ones(1)), tmp_path / 'plain.safetensors')
    with pytest.raises(ValueError, match='plain.safetensors: no published model, as it holds no config'):
        ZeroShotInferencer(tmp_path / 'plain.safetensors')
    with pytest.raises(FileNotFoundError, match='gone.safetensors: no such checkpoint'):
        ZeroShotInferencer(tmp_path / 'gone.safetensors')
    with pytest.raises(ValueError, match='plain.safetensors: a model, and no config with data to read'):
        read_config(tmp_path / 'plain.safetensors')


def test_a_config_without_model_runs_no_text_of_the_checkpoint(tmp_path, monkeypatch):
    """MMEngine's inferencer would run ``meta['cfg']`` of the checkpoint."""
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, meta=dict(cfg="open('harmed', 'w')")), 'hostile.pth')
    (tmp_path / 'empty.py').touch()
    with pytest.raises(ValueError, match='empty.py: a config without model'):
        ZeroShotInferencer('empty.py', 'hostile.pth')
    assert not (tmp_path / 'harmed').exists()


def test_the_tool(checkpoint, tmp_path, monkeypatch, capsys):
    tool = load_tool('tools/model_converters/publish.py')

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['publish.py', *map(str, arguments)])
        code = 0
        try:
            tool.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    options = ['--config', CONFIG, '--cfg-options', 'model.fusion.gamma=0.4']
    code, printed, _ = run(checkpoint, tmp_path / 'a/model', '--license', 'mit', *options)
    (path,) = tmp_path.glob('a/model-*.safetensors')
    assert code == 0 and f'{path}: ' in printed and f'{path.with_suffix(".md")}: the model card' in printed
    assert read_published_config(path).model.fusion.gamma == 0.4
    assert 'license: mit' in path.with_suffix('.md').read_text()
    code, _, error = run(checkpoint, tmp_path / 'b', '--cfg-options', 'model.fusion.gamma=0.4')
    assert code == 2 and error == 'mmzeg: error: --cfg-options changes fields of --config: give one\n'
    torch.save(dict(state_dict=Harmful()), tmp_path / 'hostile.pth')
    code, _, error = run(tmp_path / 'hostile.pth', tmp_path / 'b')
    assert code == 2 and 'nothing of it was run' in error and '--trust-file' in error
