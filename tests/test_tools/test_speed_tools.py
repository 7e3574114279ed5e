"""The benchmark tools measure every variant and every way to train, and name wrong input."""

import json
import re
import sys
from pathlib import Path

import pytest
from python_runs import run_python
from tool_loading import load_tool

ROOT = Path(__file__).parents[2]
WORLD = 'configs/zegformer_r18_world.py'


def run(tool, *arguments):
    command = [str(ROOT / 'tools/analysis_tools' / tool), *map(str, arguments)]
    return run_python(command, ROOT)


def test_benchmark_measures_every_variant(tmp_path):
    out = tmp_path / 'results.json'
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


def test_results_are_printed_before_writing_a_file_may_fail(tmp_path, monkeypatch, capsys):
    benchmark = load_tool('tools/analysis_tools/benchmark.py')
    monkeypatch.setattr(benchmark, 'run_inference_benchmark', lambda options: [])
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', WORLD, '--json', str(tmp_path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert 'medians of 3' in capsys.readouterr().out


def test_benchmark_in_another_precision():
    small = (WORLD, '--image-size', 64, 64, '--repeats', 1, '--device', 'cpu', '--variants', 'reference')
    assert run('benchmark.py', *small, 'exact', '--precision', 'bf16').returncode == 0
    assert run('benchmark.py', *small, '--precision', 'fp16').returncode == 0
    result = run('benchmark.py', *small, 'exact', '--precision', 'fp16')
    assert result.returncode == 2 and 'needs a GPU' in result.stderr


def test_training_benchmark_measures_every_way(tmp_path):
    out = tmp_path / 'results.json'
    result = run(
        'benchmark_training.py', WORLD, '--crop', 64, 64, '--repeats', 1, '--device', 'cpu', '--json', out,
        '--ways', 'plain', 'checkpointing', 'amp',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())
    assert [row['way'] for row in rows] == ['plain', 'checkpointing', 'amp']
    assert all(row['seconds'] == pytest.approx(row['forward'] + row['backward'], rel=0.05) for row in rows)


def test_training_benchmark_counts_kernels(tmp_path):
    out = tmp_path / 'results.json'
    small = (WORLD, '--crop', 64, 64, '--device', 'cpu', '--json', out)
    counts = []
    for num_images in (2, 4):
        result = run('benchmark_training.py', *small, '--batch', num_images, '--kernels')
        assert result.returncode == 0, result.stderr
        (row,) = json.loads(out.read_text())
        assert f'| {row["kernels"]["all"]} / {row["waits"]["all"]} |' in re.sub(' +', ' ', result.stdout)
        counts.append(row)
    # More images launch more kernels for the matching, and wait no more.
    assert 500 < counts[0]['kernels']['all'] < counts[1]['kernels']['all']
    assert counts[0]['waits'] == counts[1]['waits'] and 0 < counts[0]['waits']['all'] <= 6


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((WORLD, '--random-clip', 'ViT-Z-9'), 'ViT-Z-9: no open_clip architecture'),
        (('configs/per-pixel_r18_world.py',), 'give it as --baselines'),
        ((WORLD, '--repeats', 0), '--repeats must be 1 or more, got 0'),
    ],
)
def test_wrong_input_is_named(arguments, message):
    result = run('benchmark.py', *arguments)
    assert result.returncode == 2 and message in result.stderr and 'Traceback' not in result.stderr


def test_video_benchmark():
    result = run('benchmark_video.py', WORLD, '--frames', 20, '--size', 96, '--device', 'cpu')
    assert result.returncode == 0, result.stderr
    assert re.search(r'20 frames of 96 x 96: \d+\.\d per second', result.stdout)
    memory = re.search(r'tenth: (.*)', result.stdout)[1].split(', ')
    assert len(memory) == 11 and all(int(value) > 100 for value in memory)
    result = run('benchmark_video.py', WORLD, '--frames', 2)
    assert result.returncode == 2 and '--frames must be 10 or more' in result.stderr
