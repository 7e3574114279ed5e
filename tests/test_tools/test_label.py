"""tools/label.py as a process: killed and resumed, in two processes, on a full disk, and its messages."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from labelling_runs import (
    CONFIG,
    LIMITED,
    SLOW,
    label_maps,
    run_tool,
    save_images,
    save_weights,
    start_tool,
    without_seconds,
)
from tool_loading import load_tool

from mmzeg.labelling.manifest import read_manifest
from mmzeg.publishing.publish import publish
from mmzeg.utils.config_files import read_config

OPTIONS = ('--classes', 'umbrella, parasol; grass; sky', '--mode', 'seg', '--device', 'cpu', '--save-scores')
TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    save_weights(path)
    return path


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """31 images, a corrupt and an empty one."""
    folder = tmp_path_factory.mktemp('data') / 'images'
    save_images(folder, 31)
    (folder / 'seq0/corrupt.jpg').write_bytes((folder / 'seq0/000.jpg').read_bytes()[:300])
    (folder / 'seq1/empty.png').touch()
    return folder


@pytest.fixture(scope='module')
def undisturbed(weights, images, tmp_path_factory):
    """The folder of one undisturbed run in one process, in batches."""
    out = tmp_path_factory.mktemp('undisturbed') / 'out'
    code, output, errors = run_tool(CONFIG, weights, images, out, *OPTIONS, '--batch-size', 3)
    assert code == 0, errors
    assert '31 label maps in' in output and '2 of 33 images could not be labelled' in output
    assert '33 of 33 images, ' in errors and '0:00:00 left' in errors
    return out


def check_equal(out, undisturbed):
    """Check that a run gave the files of an undisturbed one, byte for byte, and its manifest but for the seconds."""
    assert label_maps(out) == label_maps(undisturbed) and len(label_maps(out)) == 62
    assert without_seconds(read_manifest(out)) == without_seconds(read_manifest(undisturbed))
    for name in ('settings.json', 'classes.json', 'splits/train.txt', 'splits/val.txt'):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in undisturbed.iterdir())


def num_rows(out):
    return sum(path.read_bytes().count(b'\n') for path in (out / '.parts').glob('*.jsonl'))


def test_killed_and_resumed(weights, images, undisturbed, tmp_path):
    out = tmp_path / 'out'
    arguments = (CONFIG, weights, images, out, *OPTIONS, '--batch-size', 3)
    for _ in range(2):
        process = start_tool(*arguments, launcher=('-c', SLOW))
        while process.poll() is None and num_rows(out) < 4:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (out / 'review.html').exists() and 0 < len(label_maps(out)) < 62
    # What a process that is killed while it writes leaves.
    with (out / '.parts/0.jsonl').open('a') as part:
        part.write('{"file": "seq')
    (out / f'annotations/seq0/000.png.{"ab12" * 8}.part').write_bytes(b'half')
    code, output, errors = run_tool(*arguments)
    assert code == 0, errors
    assert 'of 33 images are labelled already' in output and '1 damaged lines of the manifest' in output
    check_equal(out, undisturbed)


def test_two_processes(weights, images, undisturbed, tmp_path):
    arguments = (CONFIG, weights, images, tmp_path / 'out', *OPTIONS, '--batch-size', 3, '--launcher', 'pytorch')
    code, output, errors = run_tool(*arguments, launcher=TORCHRUN)
    assert code == 0, errors
    assert output.count('label maps in') == 1
    check_equal(tmp_path / 'out', undisturbed)
    # Refused in both, before a model is built.
    code, output, errors = run_tool(*arguments, '--min-area', 5, launcher=TORCHRUN)
    assert code != 0 and errors.count('mmzeg: error: ') == 1 and 'min_area is 5, but was 0' in errors


def test_a_file_that_does_not_fit_on_the_disk(weights, images, undisturbed, tmp_path):
    """A limit of the system on the size of a file: writing fails when a part of the file is written."""
    out = tmp_path / 'out'
    arguments = (CONFIG, weights, images, out, *OPTIONS, '--batch-size', 3)
    code, _, errors = run_tool(*arguments, launcher=('-c', LIMITED))
    assert code == 2 and 'File too large' in errors, errors
    assert f'{out}/scores/seq' in errors or f'{out}/annotations/seq' in errors
    assert sum(line.startswith('mmzeg: error') for line in errors.splitlines()) == 1 and 'Traceback' not in errors
    assert not [path for path in out.rglob('*') if path.name.endswith('.part')]
    assert label_maps(out).items() <= label_maps(undisturbed).items()


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Runs the tool in this process; returns its exit code, and its output of both streams."""
    tool = load_tool('tools/label.py')

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['label.py', *map(str, arguments)])
        code = 0
        try:
            tool.main()
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_bad_arguments_end_in_one_line(run_main, weights, images, tmp_path):
    out = tmp_path / 'out'
    cases = [
        ((CONFIG, weights, tmp_path / 'gone', out), 'gone: no such folder of images'),
        ((CONFIG, weights, images, images / 'out'), 'it is in the folder of images'),
        ((CONFIG, weights, images, out, '--classes', ';'), 'the vocabulary is empty'),
        ((CONFIG, weights, images, out, '--classes', 'sky;sky'), "'sky' is listed twice"),
        ((CONFIG, weights, images, out, '--classes', 'sky', '--seen', 'sea'), "'sea' is listed in seen but not"),
        ((CONFIG, weights, images, out, '--batch-size', 0), '--batch-size must be 1 or more'),
        ((CONFIG, weights, images, out, '--ignore-below', 2), r'--ignore-below must lie in [0, 1]'),
        ((CONFIG, weights, images, out, '--min-area', -1), '--min-area must be a number of pixels'),
        ((CONFIG, tmp_path / 'gone.pth', images, out), 'gone.pth: no such checkpoint'),
        ((CONFIG, weights, images, out, '--launcher', 'pytorch'), 'torchrun did not start this process'),
        ((CONFIG, weights, images, out, '--launcher', 'slurm'), 'srun did not start this process'),
    ]
    for arguments, message in cases:
        code, output = run_main(*arguments)
        assert code == 2 and message in output and output.count('\n') == 1, output
    assert not out.exists()
    code, output = run_main(CONFIG, weights, images)
    assert code == 2 and 'give two folders, IMAGES and OUT' in output


def test_a_published_model_writes_the_same_labels(run_main, weights, images, undisturbed, tmp_path):
    model = publish(weights, tmp_path / 'model', read_config(CONFIG)).path
    code, output = run_main(model, images, tmp_path / 'out', *OPTIONS, '--batch-size', 3)
    assert code == 0 and '31 label maps in' in output, output
    assert label_maps(tmp_path / 'out') == label_maps(undisturbed)


def test_an_output_folder_that_cannot_be_written(run_main, weights, images, tmp_path):
    (tmp_path / 'file').touch()
    code, output = run_main(CONFIG, weights, images, tmp_path / 'file/out')
    assert code == 2 and 'file/out' in output and output.count('\n') == 1


def test_a_second_run_is_refused(run_main, weights, images, tmp_path):
    out = tmp_path / 'out'
    process = start_tool(CONFIG, weights, images, out, *OPTIONS)
    while process.poll() is None and not (out / '.parts/images.json').exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    code, output = run_main(CONFIG, weights, images, out, *OPTIONS)
    process.kill()
    process.communicate()
    assert code == 2 and 'another run is labelling into this folder' in output


def test_names_that_clip_truncates_give_a_warning(weights, images, tmp_path):
    (tmp_path / 'images').mkdir()
    shutil.copy(images / 'seq0/000.jpg', tmp_path / 'images/a.jpg')
    long_name = ' '.join(['umbrella'] * 80)
    classes = tmp_path / 'classes.txt'
    classes.write_text(f'sky\n{long_name}\n')
    arguments = (CONFIG, weights, tmp_path / 'images', tmp_path / 'out', '--classes', classes, '--device', 'cpu')
    code, output, errors = run_tool(*arguments)
    assert code == 0 and 'CLIP reads the first' in output + errors and 'shorten it' in output + errors
    assert json.loads(Path(tmp_path / 'out/classes.json').read_text())['classes'] == ['sky', long_name]
