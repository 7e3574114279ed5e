"""Names of weights in the model zoos that MMEngine knows: ``torchvision://resnet50``, ``open-mmlab://resnet101_v1c``."""

from difflib import get_close_matches

from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)


def check_zoo_name(checkpoint: str) -> None:
    """Raise ValueError, with similar names, if a model zoo lacks the weights of this name; other URLs are not checked.

    Args:
        checkpoint (str): The URL in an ``init_cfg`` or ``load_from``.
    """
    scheme, _, name = checkpoint.partition('://')
    if scheme in ('torchvision', 'modelzoo'):
        names = get_torchvision_models()
    elif scheme in ('open-mmlab', 'openmmlab'):
        names = get_external_models() | get_deprecated_model_names()
    elif scheme == 'mmcls':
        names = get_mmcls_models()
    else:
        return
    if name not in names:
        similar = get_close_matches(name, names, n=5, cutoff=0.5)
        hint = f'similar names are {", ".join(similar)}' if similar else 'correct the name'
        raise ValueError(f'{checkpoint}: the model zoo has no weights of this name; {hint}')
