"""Checkpoints that survive kill -9 at any moment."""

from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmzeg.registry import HOOKS
from mmzeg.utils.atomic import atomic_replace, atomic_write


class _LateRemovals:
    """A file backend that keeps removals for later; everything else goes straight on."""

    def __init__(self, backend) -> None:
        self.backend, self.paths = backend, []

    def __getattr__(self, name: str):
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with the order turned round.

    mmengine removes the old file, then writes the new one in place: killed in between, nothing is left. Here a file is
    written under another name, takes its own when it is whole, is named in ``last_checkpoint``, and only then the old
    one goes. Local folders only; on other storage it behaves like mmengine's. Arguments are mmengine's.
    """

    def before_run(self, runner: Runner) -> None:
        """Before resuming, let ``last_checkpoint`` name the newest one, where a run was killed before it wrote that."""
        if not runner._resume:
            return
        if is_main_process():
            self._mend(Path(runner.work_dir, 'last_checkpoint'))
        # All processes resume from what it names.
        barrier()

    @staticmethod
    def _mend(pointer: Path) -> None:
        named = Path(pointer.read_text()) if pointer.is_file() else None
        whole = [*pointer.parent.glob('iter_[0-9]*.pth'), *pointer.parent.glob('epoch_[0-9]*.pth')]
        if named and named.is_file():
            whole.append(named)
        if whole:
            newest = max(whole, key=lambda path: path.stat().st_mtime)
            atomic_write(pointer, lambda partial: partial.write_text(str(newest)))

    def before_train(self, runner: Runner) -> None:
        """Set up as mmengine does, and drop what a killed run had half written."""
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for leftover in Path(self.out_dir).glob('*.pth.tmp'):
                leftover.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._whole_files(runner):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._whole_files(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _whole_files(self, runner: Runner):
        if not isinstance(self.file_backend, LocalBackend):
            # Another storage, or inside a best checkpoint's saving, where this is under way already.
            yield
            return
        backend, save = self.file_backend, runner.save_checkpoint
        self.file_backend = late = _LateRemovals(backend)

        def save_whole(out_dir: str, filename: str, *args, **kwargs) -> None:
            save(out_dir, f'{filename}.tmp', *args, **kwargs)
            if is_main_process():
                target = Path(out_dir, filename)
                atomic_replace(target.with_name(f'{filename}.tmp'), target)
                late.paths = [path for path in late.paths if Path(path) != target]

        runner.save_checkpoint = save_whole
        try:
            yield
            for path in late.paths:
                backend.remove(path)
        finally:
            del runner.save_checkpoint
            self.file_backend = backend
