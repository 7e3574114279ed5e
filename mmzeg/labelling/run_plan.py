"""What is left of a run: its settings, its images, and those that an earlier run labelled."""

from dataclasses import dataclass

from mmengine.config import Config

from mmzeg.labelling.image_list import (
    check_folders,
    check_stems,
    label_name,
    list_images,
    merge_image_lists,
    pending_blocks,
    read_image_list,
    write_image_list,
)
from mmzeg.labelling.job_settings import check_same_settings, collect_settings, read_settings, write_settings
from mmzeg.labelling.label_writer import LABEL_MAPS, SCORE_MAPS
from mmzeg.labelling.manifest import PARTS, read_saved_rows, write_manifest
from mmzeg.labelling.options import LabelOptions
from mmzeg.labelling.run_lock import RunLock
from mmzeg.labelling.storage import Storage
from mmzeg.labelling.student import SPLITS


@dataclass(frozen=True)
class RunPlan:
    """What the processes of a run have to do.

    Args:
        settings (dict): Everything that decides the label maps, see ``collect_settings``.
        names (list[str]): All images.
        blocks (list[list[tuple[str, bool]]]): Blocks in which an image is left, see ``pending_blocks``.
        messages (list[str]): What the user should know of the earlier run.
    """

    settings: dict
    names: list[str]
    blocks: list[list[tuple[str, bool]]]
    messages: list[str]


def plan_run(
    cfg: Config, weights: str | None, options: LabelOptions, images: Storage, out: Storage, lock: RunLock
) -> RunPlan:
    """Check what the user gave, take the lock, and find out what an earlier run left to do. No model is built.

    Args:
        cfg (Config): The model's config.
        weights (str, optional): Its checkpoint; None for a published model.
        options (LabelOptions): What the user chose.
        images (Storage): The folder of images.
        out (Storage): The output folder.
        lock (RunLock): Of the output folder.

    Raises:
        FileNotFoundError: No image, or no such checkpoint.
        OSError: The output folder cannot be written.
        ValueError: Bad settings, or other ones than those of the earlier run (the message says which); or another run
            works on the output folder.
    """
    # Check the input before anything is written.
    check_folders(images, out)
    settings = collect_settings(cfg, weights, options, images)
    listed = list_images(images)
    # Settings: the same as before, or none before.
    lock.acquire()
    saved = read_settings(out)
    if saved is not None:
        check_same_settings(settings, saved, out)
    # Images: those of the earlier run, then new ones.
    manifest = read_saved_rows(out)
    earlier = read_image_list(out)
    if earlier is None:
        earlier = sorted(manifest.rows)
    names = merge_image_lists(earlier, listed)
    check_stems(images, names)
    # An image is done if its row and its files exist.
    out.remove_partial_files(LABEL_MAPS, SCORE_MAPS, PARTS, SPLITS)
    files = set(out.list_files(LABEL_MAPS))
    if options.save_scores:
        files &= set(out.list_files(SCORE_MAPS))
    rows = {name: manifest.rows[name] for name in names if name in manifest.rows}
    done = {name for name, row in rows.items() if row['error'] is None and label_name(name) in files}
    # Write the settings first: without them, label maps are not this program's.
    if saved is None:
        write_settings(settings, out)
    write_image_list(out, names)
    write_manifest(out, rows)
    messages = []
    if manifest.num_damaged:
        messages.append(
            f'{out}: {manifest.num_damaged} damaged lines of the manifest are left out; images without a row are '
            'labelled again'
        )
    if done:
        messages.append(f'{out}: {len(done)} of {len(names)} images are labelled already')
    return RunPlan(settings, names, pending_blocks(names, done, options.batch_size), messages)
