"""The benchmark of labelling runs the tools as a user does, and computes its rates from their times."""

import sys

import pytest
from labelling_runs import CONFIG, save_images, save_weights
from tool_loading import load_tool

TOOL = 'tools/analysis_tools/benchmark_labelling.py'


@pytest.fixture
def benchmark():
    return load_tool(TOOL)


def test_two_processes_label_all_images(benchmark, tmp_path):
    save_weights(tmp_path / 'model.pth')
    save_images(tmp_path / 'images', 4)
    case = benchmark.Case('label.py', processes=2, batch_size=2)
    seconds, text = case.run(str(CONFIG), str(tmp_path / 'model.pth'), tmp_path / 'images')
    # One block of images: the second process has none, which the progress line accounts for.
    assert '4 of 4 images, ' in text and '4 label maps' in text
    reading, network, writing = map(float, benchmark.seconds_of_steps(text))
    assert 0 < network < seconds and reading + network + writing < seconds


def test_an_error_of_a_tool_is_printed(benchmark, tmp_path):
    with pytest.raises(ValueError, match=r'demo\.py failed: .*no image and no video'):
        benchmark.Case('demo.py').run(str(CONFIG), str(tmp_path / 'no.pth'), tmp_path)


def test_rates_leave_out_the_start(benchmark, tmp_path, monkeypatch, capsys):
    save_images(tmp_path, 10)

    def run(case, config, weights, images):
        # A start of 7 seconds, and 0.5 seconds an image.
        seconds = 7 + len(list(images.iterdir())) / 2 / case.processes
        return seconds, '' if case.tool == 'demo.py' else 'time of the main thread: reading 0.1 s, network 3.2 s'

    monkeypatch.setattr(benchmark.Case, 'run', run)
    monkeypatch.setattr(sys, 'argv', ['benchmark_labelling.py', str(CONFIG), 'model.pth', str(tmp_path / 'seq0')])
    benchmark.main()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in capsys.readouterr().out.splitlines()]
    assert rows[0][4] == '5 images, s' and [row[5] for row in rows[2:]] == ['2.00'] * 4 + ['4.00'] * 2
    assert [row[:3] for row in rows[2:4]] == [['demo.py', '1', '1'], ['demo.py', '1', '4']]
    assert rows[2][6:] == ['-', '-', '-'] and rows[4][6:] == ['0.1', '3.2', '-']


def test_one_image_is_refused(benchmark, tmp_path, monkeypatch, capsys):
    save_images(tmp_path, 1)
    monkeypatch.setattr(sys, 'argv', ['benchmark_labelling.py', 'config', 'weights', str(tmp_path / 'seq0')])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert 'give a folder of 20 images or more' in capsys.readouterr().err
