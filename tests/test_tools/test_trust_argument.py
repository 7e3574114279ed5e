"""Every tool that reads a user's weight file has ``--trust-file``, and its parser alone gives the trust."""

import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from harmful import Harmful
from tool_loading import ROOT, load_tool

from mmzeg.utils.trusted_files import TRUST_VARIABLE, is_trusted

# Positional arguments of each tool.
ARGUMENTS = {
    'tools/train.py': ['config.py'],
    'tools/test.py': ['config.py', 'mine.pth'],
    'tools/demo.py': ['config.py', 'mine.pth', 'image.png', '--out', 'out'],
    'tools/webapp.py': ['config.py', 'mine.pth'],
    'tools/label.py': ['config.py', 'mine.pth', 'images', 'out'],
    'tools/analysis_tools/sweep.py': ['config.py', 'mine.pth'],
    'tools/analysis_tools/measure_student.py': ['world', 'config.py', 'mine.pth'],
    'tools/analysis_tools/diagnose.py': ['config.py', 'mine.pth'],
    'tools/analysis_tools/explain.py': ['config.py', 'mine.pth', 'image.png'],
    'tools/analysis_tools/benchmark_labelling.py': ['config.py', 'mine.pth', 'images'],
    'tools/analysis_tools/benchmark_page.py': ['config.py', 'mine.pth'],
    'tools/analysis_tools/benchmark_video.py': ['config.py', 'mine.pth'],
    'tools/deployment/export_onnx.py': ['config.py', 'mine.pth', '--out', 'out'],
    'tools/deployment/compare_onnx.py': ['config.py', 'mine.pth', 'folder'],
    'tools/model_converters/publish.py': ['mine.pth', 'out'],
    'tools/dataset_converters/ade20k_full.py': ['source', 'out'],
    'tools/world/figure.py': ['config.py', 'mine.pth', 'figure.png'],
    'tools/world/scorers.py': ['config.py', 'mine.pth'],
}


@pytest.fixture(autouse=True)
def no_trust(monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, '')


@pytest.mark.parametrize('tool', ARGUMENTS)
def test_the_flag_trusts_the_file(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ['--trust-file', 'mine.pth', '--trust-file', 'other.pth']
    for arguments, trusted in ((ARGUMENTS[tool], False), (ARGUMENTS[tool] + flags, True)):
        monkeypatch.setattr(sys, 'argv', [tool, *arguments])
        load_tool(tool).parse_args()
        assert is_trusted(Path('mine.pth')) is is_trusted(tmp_path / 'other.pth') is trusted


def test_no_tool_is_left_out():
    """Each tool with a checkpoint among its arguments adds the flag, by itself or with those of a model."""
    for path in (ROOT / 'tools').rglob('*.py'):
        text = path.read_text()
        if re.search(r"add_argument\(\s*'(checkpoint|weights)'", text) or 'add_model_arguments(parser)' in text:
            assert str(path.relative_to(ROOT)) in ARGUMENTS, path


def test_a_converter_reads_a_trusted_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool = load_tool('tools/model_converters/zegformer.py')
    torch.save(dict(model=dict(hostile=Harmful())), 'released.pth')
    for flags, is_run in (([], False), (['--trust-file', 'released.pth'], True)):
        monkeypatch.setattr(sys, 'argv', ['zegformer.py', 'released.pth', 'out.pth', *flags])
        # The file is no model of the released code.
        with pytest.raises(SystemExit):
            tool.convert_file(tool.__doc__, tool.read_state, tool.convert)
        assert Path('harmed').exists() is is_run


def test_detectron2_s_pickles_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool = load_tool('tools/model_converters/detectron2_resnet.py')
    Path('r50.pkl').write_bytes(pickle.dumps(dict(model={}, hostile=Harmful())))
    for flags, is_run in (([], False), (['--trust-file', 'r50.pkl'], True)):
        monkeypatch.setattr(sys, 'argv', ['detectron2_resnet.py', 'r50.pkl', 'out.pth', *flags])
        with pytest.raises(SystemExit):
            tool.convert_file(tool.__doc__, tool.read_plain_pickle, tool.convert)
        assert Path('harmed').exists() is is_run
