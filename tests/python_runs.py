"""Run Python programs in processes of their own that start with the large packages imported.

Importing PyTorch and mmseg takes 8 s of a core, and the tests run hundreds of programs. ``multiprocessing``'s fork
server imports them once; each program runs in a fork of it. Programs whose start, imports or memory are tested need a
``subprocess``.
"""

import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = ['mmzeg.apis', 'mmzeg.engine', 'mmzeg.evaluation', 'mmseg.apis', 'mmdet.models']


def run_python(
    arguments: Sequence[object], cwd: str | Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run ``python ARGUMENTS``, in which the first is a file, or ``-c`` before a program's text.

    Args:
        arguments (Sequence): Those of the program; made to text.
        cwd (str | Path, optional): Working directory. Defaults to the present one.
        env (Mapping[str, str], optional): Environment variables. Defaults to the present ones.

    Returns:
        CompletedProcess: With ``returncode`` (-N for signal N), ``stdout`` and ``stderr`` as text.
    """
    arguments = [str(argument) for argument in arguments]
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix='python_runs') as folder:
        outputs = [Path(folder, name) for name in ('stdout', 'stderr')]
        process = context.Process(
            target=_run, args=(arguments, str(cwd or Path.cwd()), dict(os.environ if env is None else env), outputs)
        )
        process.start()
        process.join()
        stdout, stderr = (output.read_text(errors='replace') if output.exists() else '' for output in outputs)
    return subprocess.CompletedProcess([sys.executable, *arguments], process.exitcode, stdout, stderr)


def run_command(command: str, cwd: str | Path, env: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Run a shell command; ``python FILE ARGUMENTS`` without the shell, see ``run_python``."""
    words = shlex.split(command, comments=True)
    if words[0] == 'python' and not set(command) & set('|&<>$*?`'):
        return run_python(words[1:], cwd, env)
    return subprocess.run(['bash', '-c', command], cwd=cwd, env=env, capture_output=True, text=True)


def _run(arguments: list[str], cwd: str, env: dict[str, str], outputs: list[Path]) -> None:
    """Run a program in the forked process, which ends with it."""
    # Send the output to files: also what C code and worker processes write.
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, output in enumerate(outputs, 1):
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    # Take the place of a process that was started with this directory and environment.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[1:1] = [path for path in env.get('PYTHONPATH', '').split(os.pathsep) if path]
    if 'OMP_NUM_THREADS' in env:
        import torch

        torch.set_num_threads(int(env['OMP_NUM_THREADS']))
    # Formatting the config, four times a run, would take most of the time of a short training.
    for module in ('yapf.yapflib.yapf_api', 'mmengine.config.config'):
        unittest.mock.patch(f'{module}.FormatCode', lambda text, **_: (text, True), create=True).start()
    # Run the program as __main__.
    if arguments[0] == '-c':
        sys.argv = ['-c', *arguments[2:]]
        sys.path[0] = ''
        program = compile(arguments[1], '<string>', 'exec')
        exec(program, {'__name__': '__main__', '__builtins__': __builtins__})
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name='__main__')
