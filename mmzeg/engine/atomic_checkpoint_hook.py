"""Checkpoints that survive kill -9 at any moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmzeg.registry import HOOKS
from mmzeg.utils.atomic import atomic_replace, atomic_write


class _DeferredRemovals:
    """Wrap a file backend and collect the paths to remove instead of removing them."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Save checkpoints like mmengine's CheckpointHook, but remove the old one last.

    mmengine removes the old file, then writes the new one in place: a run killed in between has no checkpoint. Here the
    new file is written under a temporary name, renamed once complete, and named in ``last_checkpoint``; then the old
    one is removed. Local folders only; on other storage it behaves like mmengine's. Arguments are mmengine's.
    """

    def before_run(self, runner: Runner) -> None:
        """Before resuming, point ``last_checkpoint`` to the newest checkpoint: a killed run may not have done so."""
        if not runner._resume:
            return
        if is_main_process():
            self._repair(Path(runner.work_dir, 'last_checkpoint'))
        # All processes resume from the checkpoint that it names.
        barrier()

    @staticmethod
    def _repair(pointer: Path) -> None:
        # Collect the complete checkpoints, with the one that is named now.
        complete = [*pointer.parent.glob('iter_[0-9]*.pth'), *pointer.parent.glob('epoch_[0-9]*.pth')]
        named = Path(pointer.read_text()) if pointer.is_file() else None
        if named and named.is_file():
            complete.append(named)
        if complete:
            newest = max(complete, key=lambda path: path.stat().st_mtime)
            atomic_write(pointer, lambda partial: partial.write_text(str(newest)))

    def before_train(self, runner: Runner) -> None:
        """Set up as mmengine does, and remove the partial files of a killed run."""
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for partial in Path(self.out_dir).glob('*.pth.tmp'):
                partial.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._atomic_saves(runner):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._atomic_saves(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _atomic_saves(self, runner: Runner) -> Iterator[None]:
        """Let mmengine's code save to a temporary name and rename; remove old files at the end."""
        if not isinstance(self.file_backend, LocalBackend):
            # Another storage, or nested in the saving of a best checkpoint.
            yield
            return
        backend = self.file_backend
        save = runner.save_checkpoint
        removals = _DeferredRemovals(backend)
        self.file_backend = removals

        def save_atomically(out_dir: str, filename: str, *args, **kwargs) -> None:
            save(out_dir, f'{filename}.tmp', *args, **kwargs)
            if is_main_process():
                target = Path(out_dir, filename)
                atomic_replace(target.with_name(f'{filename}.tmp'), target)
                # Do not remove the file that was just written.
                removals.paths = [path for path in removals.paths if Path(path) != target]

        runner.save_checkpoint = save_atomically
        try:
            yield
            for path in removals.paths:
                backend.remove(path)
        finally:
            del runner.save_checkpoint
            self.file_backend = backend
