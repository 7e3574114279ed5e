"""Load a checkpoint and a data loader for an evaluation other than ``tools/test.py``."""

from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmzeg.datasets.dataloader_check import check_dataloader
from mmzeg.utils.preflight import check_config
from mmzeg.utils.weight_files import NO_WEIGHTS, check_weightless


def load_for_evaluation(cfg: Config, checkpoint: str, split: str) -> tuple[Runner, DataLoader]:
    """Return a runner whose model has the checkpoint's weights, in eval mode, and the data loader of a split.

    Args:
        cfg (Config): A complete config; its ``work_dir``, ``load_from`` and ``log_level`` are replaced.
        checkpoint (str): File or URL of the weights; ``none`` for a model without weights.
        split (str): ``val`` or ``test``.

    Raises:
        FileNotFoundError: The checkpoint or a data folder does not exist.
        ValueError: No data loader for the split; the classes of dataset and model differ; ``none`` for a model that has
            weights; or as ``check_dataloader``.
    """
    require_dataloader(cfg, split)
    # MMEngine writes the config into the work dir, so the training's own would get this changed config.
    cfg.work_dir = 'work_dirs/sweep'
    cfg.load_from = None if checkpoint == NO_WEIGHTS else checkpoint
    cfg.log_level = 'WARNING'
    check_config(cfg, (f'{split}_dataloader',))
    runner = Runner.from_cfg(cfg)
    if cfg.load_from is None:
        check_weightless(runner.model)
    runner.load_or_resume()
    runner.model.eval()
    # Dataset and model must have the same classes in the same order.
    loader = runner.build_dataloader(cfg[f'{split}_dataloader'])
    meta = loader.dataset.metainfo
    unseen = meta.get('unseen_classes', ())
    runner.model.vocabulary.check_matches(meta['classes'], f'the dataset of {split}_dataloader', unseen=unseen)
    check_dataloader(loader, f'{split}_dataloader', is_training=False, needs_labels=True)
    return runner, loader


def require_dataloader(cfg: Config, split: str) -> None:
    """Raise ValueError if a config has no data loader for ``val`` or ``test``."""
    if not cfg.get(f'{split}_dataloader'):
        raise ValueError(f'{cfg.filename}: no {split}_dataloader: define it, or evaluate the other of val and test')


def require_scorer(cfg: Config) -> None:
    """Raise ValueError if a config's model predicts no segments, or has no scorer."""
    if cfg.model.type not in ('mmzeg.ZegFormer', 'mmzeg.ProposalSegmentor'):
        raise ValueError(
            f'{cfg.filename}: {cfg.model.type} has no segments: give a config of mmzeg.ZegFormer or '
            'mmzeg.ProposalSegmentor'
        )
    if cfg.model.get('scorer') is None:
        raise ValueError(f'{cfg.filename}: the model has no scorer: set model.scorer')


def ignore_index_of(cfg: Config, split: str) -> int:
    """Return the label value that a config's metric ignores on ``val`` or ``test``; 255 if it says nothing."""
    metrics = cfg.get(f'{split}_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    return next((metric.ignore_index for metric in metrics if 'ignore_index' in metric), 255)
