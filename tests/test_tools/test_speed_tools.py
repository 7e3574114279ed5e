"""The benchmarks: every way is measured, stages add up, memory is seen, wrong input is named."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmseg.registry import MODELS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
WORLD = 'configs/zegformer_r18_world.py'


def run(tool, *arguments):
    command = [sys.executable, str(ROOT / 'tools/analysis_tools' / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_benchmark_measures_every_way(tmp_path):
    out = tmp_path / 'figures.json'
    result = run(
        'benchmark.py', WORLD, '--image-size', 96, 128, '--empties', 0, 12, '--repeats', 1, '--device', 'cpu',
        '--classes', 50, '--json', out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())
    assert [(row['variant'], row['empties']) for row in rows] == [
        (variant, empties)
        for variant in ('reference', 'exact', 'guaranteed', 'merged', 'threshold', 'one-pass')
        for empties in (0, 12)
    ]
    for row in rows:
        assert row['seconds'] == pytest.approx(sum(row['stages'].values()), rel=0.05)
        assert min(row['stages'][name] for name in ('backbone', 'head', 'CLIP', 'map')) > 0
        assert row['ratio'] > 0 and row['variant'] in result.stdout
    assert rows[0]['ratio'] == 1


def test_figures_are_shown_before_a_file_may_fail(tmp_path, monkeypatch, capsys):
    import benchmark

    monkeypatch.setattr(benchmark, 'build', lambda *_: [])
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', WORLD, '--json', str(tmp_path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert 'medians of 3' in capsys.readouterr().out


def test_names_are_embedded_and_not_read_from_what_was_kept(tmp_path):
    from benchmark import Case, embed_names

    weights = ROOT / 'configs/_base_/models/world_clip/open_clip_model.safetensors'
    clip = dict(type='mmzeg.CLIP', pretrained=str(weights), cache_dir=str(tmp_path))
    classifier = MODELS.build(dict(type='mmzeg.CLIPTextClassifier', in_channels=8, text_encoder=clip, vocabulary=['a']))
    model = SimpleNamespace(decode_head=SimpleNamespace(classifier=classifier))
    said = embed_names(Case('own', 'exact', 0, model, None, [], [], []), torch.device('cpu'))
    assert said.startswith('own: 1 names to embed') and not list(tmp_path.iterdir())


def test_made_up_names_are_those_of_training_too():
    from benchmark import main_config

    args = SimpleNamespace(cfg_options=None, classes=20)
    classifier = main_config('zegformer_r18_world_synonyms', args, clip=None).model.decode_head.classifier
    assert len(classifier.vocabulary.classes) == 20 and 'train_vocabulary' not in classifier


def test_benchmark_in_another_precision():
    small = (WORLD, '--image-size', 64, 64, '--repeats', 1, '--device', 'cpu', '--variants', 'reference')
    assert run('benchmark.py', *small, 'exact', '--precision', 'bf16').returncode == 0
    assert run('benchmark.py', *small, '--precision', 'fp16').returncode == 0
    result = run('benchmark.py', *small, 'exact', '--precision', 'fp16')
    assert result.returncode == 2 and 'needs a GPU' in result.stderr


def test_training_benchmark_measures_every_way(tmp_path):
    out = tmp_path / 'figures.json'
    result = run(
        'benchmark_training.py', WORLD, '--crop', 64, 64, '--repeats', 1, '--device', 'cpu', '--json', out,
        '--ways', 'plain', 'checkpointing', 'amp',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())
    assert [row['way'] for row in rows] == ['plain', 'checkpointing', 'amp']
    assert all(row['seconds'] == pytest.approx(row['forward'] + row['backward'], rel=0.05) for row in rows)


def test_stages_are_counted_without_what_they_call():
    from measuring import Stopwatch

    watch = Stopwatch(torch.device('cpu'))
    start = time.perf_counter()
    with watch.stage('outer'):
        time.sleep(0.02)
        with watch.stage('inner'):
            time.sleep(0.05)
    whole = time.perf_counter() - start
    # No second is counted twice, however long a busy machine makes them.
    assert watch.seconds['outer'] >= 0.02 and watch.seconds['inner'] >= 0.05
    assert sum(watch.seconds.values()) <= whole


def test_peak_memory_is_what_was_held_at_once():
    # In a process of its own: what other tests left behind, threads or memory, would count as well.
    script = """
import time, torch
from measuring import PeakMemory
with PeakMemory(torch.device('cpu')) as memory:
    for _ in range(10):
        held = torch.ones(64 * 2**18)  # 64 MiB
        time.sleep(0.05)
        del held
print(memory.mib)
"""
    result = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT / 'tools/analysis_tools'
    )
    assert result.returncode == 0, result.stderr
    # One of ten, or two where the system takes pages back late; never their sum, 640.
    assert 60 < float(result.stdout) < 160


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((WORLD, '--random-clip', 'ViT-Z-9'), 'ViT-Z-9: no open_clip architecture'),
        (('configs/per-pixel_r18_world.py',), 'give it as --beside'),
        ((WORLD, '--repeats', 0), '--repeats must be 1 or more, got 0'),
    ],
)
def test_wrong_input_is_named(arguments, message):
    result = run('benchmark.py', *arguments)
    assert result.returncode == 2 and message in result.stderr and 'Traceback' not in result.stderr


def test_video_benchmark():
    result = run('benchmark_video.py', WORLD, '--frames', 20, '--size', 96, '--device', 'cpu')
    assert result.returncode == 0, result.stderr
    assert re.search(r'20 frames of 96 x 96: \d+\.\d a second', result.stdout)
    memory = re.search(r'tenth: (.*)', result.stdout)[1].split(', ')
    assert len(memory) == 11 and all(int(value) > 100 for value in memory)
    result = run('benchmark_video.py', WORLD, '--frames', 2)
    assert result.returncode == 2 and '--frames must be 10 or more' in result.stderr
