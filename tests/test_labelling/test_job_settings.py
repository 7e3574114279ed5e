"""The settings of a labelling run change with the files that its model reads, not with their paths."""

import shutil
from pathlib import Path

import pytest

from mmzeg.labelling.job_settings import collect_settings
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.storage import Storage
from mmzeg.utils.config_files import read_config
from mmzeg.utils.weight_files import NO_WEIGHTS

CLIP = Path(__file__).parents[1] / 'data/golden/r50_single/clip_openai_format.safetensors'
MASK_MODEL = """
model = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor'), num_queries={})
"""


@pytest.fixture
def settings(tmp_path):
    """Return what makes the settings of masks from a model of this config, scored with these mask prompts."""

    def collect(mask_model, mask_prompts):
        cfg = read_config('proposals_maskformer-r50')
        cfg.model.proposals.config = str(mask_model)
        clip = dict(type='mmzeg.CLIP', pretrained=str(CLIP))
        cfg.model.scorer = dict(type='mmzeg.CLIPMaskPromptScorer', clip=clip, mask_prompts=str(mask_prompts))
        options = LabelOptions(str(tmp_path), str(tmp_path / 'out'), classes=['cat', 'dog'])
        return collect_settings(cfg, NO_WEIGHTS, options, Storage(tmp_path))

    return collect


def test_files_count_by_their_content(settings, tmp_path):
    mask_model = tmp_path / 'mask_model.py'
    mask_model.write_text(f"_base_ = './base.py'\n{MASK_MODEL.format(6)}")
    (tmp_path / 'base.py').write_text('model = dict(num_stages=2)\n')
    prompts = tmp_path / 'prompts.safetensors'
    prompts.write_bytes(b'some')
    first = settings(mask_model, prompts)
    # The same files in another place.
    copies = [tmp_path / 'copies' / path.name for path in (mask_model, prompts)]
    copies[0].parent.mkdir()
    for source in (mask_model, prompts, tmp_path / 'base.py'):
        shutil.copy(source, copies[0].parent)
    assert settings(*copies) == first
    # Other content in the same place, also where the config inherits it.
    prompts.write_bytes(b'other')
    second = settings(mask_model, prompts)
    (tmp_path / 'base.py').write_text('model = dict(num_stages=3)\n')
    third = settings(mask_model, prompts)
    assert first['scorer'] != second['scorer'] == third['scorer']
    assert first['config'] == second['config'] != third['config']
    # What the mask model reads outside of its model.
    (tmp_path / 'base.py').write_text('model = dict(num_stages=3)\ndata_preprocessor = dict(mean=[9, 9, 9])\n')
    assert settings(mask_model, prompts)['config'] != third['config']
