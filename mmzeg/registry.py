"""The registries of scope ``mmzeg``: children of MMEngine's root, so ``type='mmzeg.X'`` works in any config.

MMEngine imports this module the first time that a config names the scope, and the modules in ``locations`` the first
time that a class of their kind is looked up.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from mmzeg.utils.mmengine_checkpoints import use_safe_checkpoint_loading

# Here, as every use of mmzeg imports this module, and before any weights are loaded.
use_safe_checkpoint_loading()

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmzeg', locations=['mmzeg.models', 'mmzeg.clip'])
TASK_UTILS = Registry(
    'task util', parent=MMENGINE_TASK_UTILS, scope='mmzeg', locations=['mmzeg.models', 'mmzeg.vocabulary']
)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmzeg', locations=['mmzeg.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmzeg', locations=['mmzeg.datasets.transforms'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmzeg', locations=['mmzeg.evaluation'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmzeg', locations=['mmzeg.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmzeg',
    locations=['mmzeg.engine'],
)
