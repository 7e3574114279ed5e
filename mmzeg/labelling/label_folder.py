"""Label a folder of images: plan the run, label in all processes, then write the dataset around the label maps."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier

from mmzeg.apis import ZeroShotInferencer
from mmzeg.labelling.engine import Block, LabelEngine
from mmzeg.labelling.image_list import IMAGE_LIST
from mmzeg.labelling.image_reader import ImageReader
from mmzeg.labelling.label_writer import LABEL_MAPS, LabelWriter
from mmzeg.labelling.manifest import MANIFEST, PARTS, ManifestPart, read_saved_rows, write_manifest
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.process_group import join_process_group, leave_process_group, process_device, share
from mmzeg.labelling.progress import ProgressLine
from mmzeg.labelling.review import write_review_sheet
from mmzeg.labelling.run_lock import RunLock
from mmzeg.labelling.run_plan import RunPlan, plan_run
from mmzeg.labelling.storage import Storage
from mmzeg.labelling.student import write_student_configs

# Images that are read ahead of the network, and that wait behind it, besides those of a batch.
LOOKAHEAD = 8


def label_folder(cfg: Config, weights: str | None, options: LabelOptions, launcher: str = 'none') -> list[dict]:
    """Label all images of a folder, or those that an interrupted run left.

    Args:
        cfg (Config): The model's config, or that of a published model, see ``read_model_config``.
        weights (str, optional): Its checkpoint; None for a published model.
        options (LabelOptions): Folders, class names, fusion, and which pixels are ignored.
        launcher (str): How the processes of this run were started: ``none`` (a single one), ``pytorch`` or ``slurm``.

    Returns:
        list[dict]: The rows of the manifest, sorted by file; in other processes than the first, none.

    Raises:
        FileNotFoundError: No image, or no such checkpoint.
        OSError: The output folder cannot be written, or is full.
        ValueError: Bad settings, or other ones than those of the earlier run in the output folder; or another run works
            on it.
    """
    rank, num_processes = join_process_group(launcher)
    run = LabelRun(cfg, weights, options, launcher, rank, num_processes)
    try:
        plan = run.make_plan()
        run.label_share(plan)
        barrier()
        rows = [] if rank else run.finish(plan)
        # Until here, every process holds the lock.
        barrier()
    finally:
        run.lock.release()
    leave_process_group()
    return rows


class LabelRun:
    """One process of a run.

    Args:
        cfg, weights, options, launcher: See ``label_folder``.
        rank (int): Number of this process.
        num_processes (int): How many processes label.
    """

    def __init__(
        self, cfg: Config, weights: str | None, options: LabelOptions, launcher: str, rank: int, num_processes: int
    ) -> None:
        self._cfg = cfg
        self._weights = weights
        self._options = options
        self._launcher = launcher
        self._rank = rank
        self._num_processes = num_processes
        self._images = Storage(options.images)
        self._out = Storage(options.out)
        self.lock = RunLock(self._out)

    def make_plan(self) -> RunPlan:
        """Return the plan of the first process; where that raises an error, the other processes end quietly."""
        plan = None
        try:
            if self._rank == 0:
                plan = plan_run(self._cfg, self._weights, self._options, self._images, self._out, self.lock)
        finally:
            plan = share(plan)
        if plan is None:
            # Exit code 0: at the first failed process torchrun stops the others, which may be the one with the message.
            sys.exit(0)
        if self._rank:
            self.lock.join()
            return plan
        for message in (self.lock.warning, *plan.messages):
            if message is not None:
                print(f'mmzeg: {message}', flush=True)
        return plan

    def label_share(self, plan: RunPlan) -> None:
        """Label the images of this process."""
        blocks = plan.blocks[self._rank :: self._num_processes]
        if not blocks:
            return
        # The model, with the vocabulary of the plan.
        options = self._options
        inferencer = ZeroShotInferencer(self._cfg, self._weights, process_device(self._launcher, options.device))
        classes, seen = plan.settings['classes'], plan.settings['seen']
        settings = inferencer.settings(classes, seen, options.mode, options.lam, options.gamma)
        # Threads before and behind the network.
        lookahead = LOOKAHEAD + options.batch_size
        reader = ImageReader(self._images, self._cfg, lookahead)
        part = ManifestPart(self._out, self._rank)
        writer = LabelWriter(self._out, part, options, classes, lookahead)
        engine = LabelEngine(inferencer, settings, options.batch_size)
        # The first process prints how far the run is.
        progress = None
        if self._rank == 0:
            progress = ProgressLine(count_left(blocks), count_left(plan.blocks))
        engine.run(blocks, reader, writer, progress)
        if progress is not None:
            progress.finish()
            seconds = ', '.join(f'{name} {value:.1f} s' for name, value in engine.seconds.items())
            print(f'mmzeg: time of the main thread: {seconds}', flush=True)

    def finish(self, plan: RunPlan) -> list[dict]:
        """Write the manifest of all images, the configs of a student and the review sheet; return the rows."""
        out = self._out
        rows = read_saved_rows(out).rows
        missing = [name for name in plan.names if name not in rows]
        if missing:
            raise ValueError(
                f'{out.path(PARTS)}: no row of {missing[0]}, the first of {len(missing)}, although all processes '
                'ended: start again with the same arguments'
            )
        write_manifest(out, rows)
        out.remove(IMAGE_LIST)
        rows = [rows[name] for name in sorted(rows)]
        if not out.is_local:
            print(f'mmzeg: {out}: no local folder, and so without review.html and configs of a student', flush=True)
            return rows
        with suppress(OSError):
            # Another program's files may be in it.
            Path(out.path(PARTS)).rmdir()
        write_review_sheet(Path(out.root), rows, self._images.root)
        try:
            write_student_configs(Path(out.root), rows)
        except ValueError as error:
            # Too few images, or none with a label: there is nothing to train on, but the label maps are complete.
            print(f'mmzeg: no configs of a student: {error}', flush=True)
        return rows


def count_left(blocks: Sequence[Block]) -> int:
    """Return how many images of blocks are left to label."""
    return sum(not is_done for block in blocks for _, is_done in block)


def summary(rows: list[dict], out: str) -> str:
    """Return the result of a run in one or two lines."""
    errors = [row['error'] for row in rows if row['error'] is not None]
    folder = Storage(out)
    text = f'mmzeg: {len(rows) - len(errors)} label maps in {folder.path(LABEL_MAPS)}'
    if errors:
        text += f'\nmmzeg: {len(errors)} of {len(rows)} images could not be labelled, see {folder.path(MANIFEST)}: '
        text += errors[0]
    return text
