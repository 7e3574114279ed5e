"""Label a folder of images: plan the run, label in all processes, then write the dataset around the label maps."""

import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier

from mmzeg.apis import ZeroShotInferencer
from mmzeg.labelling.engine import LabelEngine
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
        launcher (str): How the processes of this run were started: ``none`` (one alone), ``pytorch`` or ``slurm``.

    Returns:
        list[dict]: The rows of the manifest, sorted by file; in other processes than the first, none.

    Raises:
        FileNotFoundError: No image, or no such checkpoint.
        OSError: The output folder cannot be written, or is full.
        ValueError: Bad settings, or other ones than those of the earlier run in the output folder; or another run works
            on it.
    """
    rank, num_processes = join_process_group(launcher)
    out = Storage(options.out)
    images = Storage(options.images)
    lock = RunLock(out)
    try:
        plan = _plan_in_first_process(cfg, weights, options, images, out, lock, rank)
        if rank:
            lock.join()
        _label_share(cfg, weights, options, images, out, plan, launcher, rank, num_processes)
        barrier()
        rows = [] if rank else _finish(out, images, plan)
        # The lock is released by the last process.
        barrier()
    finally:
        lock.release()
        leave_process_group()
    return rows


def _plan_in_first_process(
    cfg: Config,
    weights: str | None,
    options: LabelOptions,
    images: Storage,
    out: Storage,
    lock: RunLock,
    rank: int,
) -> RunPlan:
    """Return the plan that the first process makes; where it raises, the other processes end without a message."""
    plan = None
    try:
        if rank == 0:
            plan = plan_run(cfg, weights, options, images, out, lock)
    finally:
        plan = share(plan)
    if plan is None:
        sys.exit(2)
    if rank == 0:
        for message in filter(None, (lock.warning, *plan.messages)):
            print(f'mmzeg: {message}', flush=True)
    return plan


def _label_share(
    cfg: Config,
    weights: str | None,
    options: LabelOptions,
    images: Storage,
    out: Storage,
    plan: RunPlan,
    launcher: str,
    rank: int,
    num_processes: int,
) -> None:
    """Label the images of this process."""
    blocks = plan.share_of(rank, num_processes)
    if not blocks:
        return
    # The model, with the vocabulary of the plan.
    inferencer = ZeroShotInferencer(cfg, weights, process_device(launcher, options.device))
    settings = inferencer.settings(
        plan.settings['classes'], plan.settings['seen'], options.mode, options.lam, options.gamma
    )
    # Threads before and behind the network.
    lookahead = LOOKAHEAD + options.batch_size
    reader = ImageReader(images, cfg, lookahead)
    writer = LabelWriter(out, ManifestPart(out, rank), options, settings.vocabulary.names, lookahead)
    engine = LabelEngine(inferencer, settings, options.batch_size)
    progress = None
    if rank == 0:
        num_left = sum(not is_done for block in blocks for _, is_done in block)
        progress = ProgressLine(num_left, num_processes)
    engine.run(blocks, reader, writer, progress)
    if progress is not None:
        progress.finish()
        seconds = ', '.join(f'{name} {value:.1f} s' for name, value in engine.seconds.items())
        print(f'mmzeg: time of the main thread: {seconds}', flush=True)


def _finish(out: Storage, images: Storage, plan: RunPlan) -> list[dict]:
    """Write the manifest of all images, the configs of a student and the review sheet; return the manifest's rows."""
    rows = read_saved_rows(out).rows
    missing = [name for name in plan.names if name not in rows]
    if missing:
        raise ValueError(
            f'{out.path(PARTS)}: no row of {missing[0]}, the first of {len(missing)}, although all processes ended: '
            'start again with the same arguments'
        )
    write_manifest(out, rows)
    out.remove(IMAGE_LIST)
    rows = [rows[name] for name in sorted(rows)]
    if not out.is_local:
        print(f'mmzeg: {out}: not a local folder, and so without review.html and the configs of a student', flush=True)
        return rows
    Path(out.path(PARTS)).rmdir()
    write_student_configs(Path(out.root), rows)
    write_review_sheet(Path(out.root), rows, images.root)
    return rows


def summary(rows: list[dict], out: str) -> str:
    """Return the result of a run in one or two lines."""
    errors = [row['error'] for row in rows if row['error'] is not None]
    folder = Storage(out)
    text = f'mmzeg: {len(rows) - len(errors)} label maps in {folder.path(LABEL_MAPS)}'
    if errors:
        text += f'\nmmzeg: {len(errors)} of {len(rows)} images could not be labelled, see {folder.path(MANIFEST)}: '
        text += errors[0]
    return text
