"""Which weights decay (reference "Training"): neither norm layers nor embeddings, of whatever backbone."""

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmzeg.registry import OPTIM_WRAPPER_CONSTRUCTORS

KINDS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
TABLES = ('relative_position_bias_table', 'absolute_pos_embed')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, and no weight decay on norm layers, embeddings and Swin's position tables.

    mmengine's ``norm_decay_mult`` passes over a norm layer whose name holds a custom key, ``backbone`` say.
    Arguments are mmengine's.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Anything in it makes mmengine give every parameter a group of its own.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or dict(custom_keys={}))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """An optimizer wrapper over the trainable parameters of ``model``."""
        wrapper = super().__call__(model)
        free = {
            id(parameter)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if isinstance(module, KINDS) or name in TABLES
        }
        for group in wrapper.optimizer.param_groups:
            if id(group['params'][0]) in free:
                group['weight_decay'] = 0.0
        return wrapper
