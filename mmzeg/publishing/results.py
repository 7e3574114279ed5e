"""The results of a published model, from the report of its test."""

import json
from pathlib import Path

from mmzeg.clip.text_cache import content_hash

# What says which data were tested.
_DATASET_FIELDS = ('type', 'split', 'data_root', 'ann_file', 'length', 'size')


def read_results(checkpoint: Path, report: str | Path | None = None) -> dict | None:
    """Read the results of a checkpoint from ``report.json`` of ``tools/test.py``.

    Args:
        checkpoint (Path): The tested checkpoint.
        report (str | Path, optional): Defaults to the report in the checkpoint's folder, if it is of this checkpoint.

    Returns:
        dict | None: ``metrics`` in percent, ``classes``, ``packages``, ``config_hash``, and ``datasets``, the fields of
        the tested datasets that say which they are. None if there is no report.

    Raises:
        FileNotFoundError: No such report.
        ValueError: Not a report, or of another checkpoint.
    """
    path = Path(report) if report else checkpoint.parent / 'report.json'
    if not path.is_file():
        if report:
            raise FileNotFoundError(f'{path}: no such report of a test')
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        tested_hash = content['checkpoint']['hash']
        dataset = content['config']['test_dataloader']['dataset']
        results = {name: content[name] for name in ('metrics', 'classes', 'packages', 'config_hash')}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f'{path}: not a report of tools/test.py; test again') from error
    if tested_hash != content_hash(checkpoint):
        if report:
            raise ValueError(f'{path}: a report of another checkpoint than {checkpoint}; test that one')
        return None
    datasets = dataset.get('datasets') or [dataset]
    results['datasets'] = [{name: item[name] for name in _DATASET_FIELDS if name in item} for item in datasets]
    return results
