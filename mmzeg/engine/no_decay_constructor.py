"""Weight decay for all weights except norm layers and embeddings (docs/en/method.md#training)."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmzeg.registry import OPTIM_WRAPPER_CONSTRUCTORS

NO_DECAY_MODULES = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
NO_DECAY_NAMES = ('relative_position_bias_table', 'absolute_pos_embed')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoDecayConstructor(DefaultOptimWrapperConstructor):
    """Construct mmengine's optimizer wrapper, without weight decay on norm layers, embeddings and position tables.

    mmengine's ``norm_decay_mult`` skips a norm layer whose name contains a custom key, such as ``backbone``.
    Arguments are mmengine's.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # With a non-empty dict mmengine makes one group for each parameter.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or dict(custom_keys={}))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build an optimizer wrapper for the trainable parameters of ``model``."""
        wrapper = super().__call__(model)
        no_decay_ids = {
            id(parameter)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if isinstance(module, NO_DECAY_MODULES) or name in NO_DECAY_NAMES
        }
        for group in wrapper.optimizer.param_groups:
            if id(group['params'][0]) in no_decay_ids:
                group['weight_decay'] = 0.0
        return wrapper
