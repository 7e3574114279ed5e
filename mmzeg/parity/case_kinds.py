"""Check a golden case of any kind."""

import json
from collections.abc import Callable
from pathlib import Path

from mmzeg.parity.comparison import Comparison
from mmzeg.parity.options import CheckOptions
from mmzeg.parity.per_pixel_case import WEIGHTS as PER_PIXEL_WEIGHTS
from mmzeg.parity.per_pixel_case import check_per_pixel
from mmzeg.parity.released_case import require_files
from mmzeg.parity.successor_cases import check_fc_clip, check_ip_clip, check_mask_prompts
from mmzeg.parity.zegformer_case import check_zegformer
from mmzeg.utils.float_precision import without_tf32

# Each takes the case's folder, the content of its case.json, and how it is checked.
KINDS: dict[str, Callable[[Path, dict, CheckOptions], Comparison]] = {
    'zegformer': check_zegformer,
    'per_pixel': check_per_pixel,
    'MAFT IP-CLIP': check_ip_clip,
    'OVSeg mask prompt tuning': check_mask_prompts,
    'FC-CLIP': check_fc_clip,
}


def check_case(folder: Path, device: str = 'cpu', execution: str = 'auto') -> Comparison:
    """Compare mmzeg with everything in a case folder.

    Args:
        folder (Path): With ``case.json``, whose ``kind`` is one of ``KINDS``. Without ``kind`` the case is of the
            released ZegFormer, or of its per-pixel baseline if the folder holds weights of that.
        device (str): ``cpu`` or ``cuda``, which computes without TF32. Defaults to ``cpu``.
        execution (str): Mode of ``mmzeg.models.Execution`` of ZegFormer's and OVSeg's cases. Defaults to ``auto``.

    Returns:
        Comparison: A row per value; a golden tensor that is not compared fails.

    Raises:
        FileNotFoundError: A file of the case is missing; names it.
        ValueError: The kind is unknown, or a file is truncated; names the file. Or there is no such device.
    """
    settings_file = folder / 'case.json'
    require_files(settings_file)
    settings = json.loads(settings_file.read_text())
    default = 'per_pixel' if (folder / PER_PIXEL_WEIGHTS).is_file() else 'zegformer'
    kind = settings.get('kind', default)
    if kind not in KINDS:
        raise ValueError(f'{settings_file}: kind {kind!r} is unknown: use one of {", ".join(KINDS)}')
    options = CheckOptions(device, execution)
    with without_tf32():
        comparison = KINDS[kind](folder, settings, options)
    comparison.fail_not_compared()
    return comparison
