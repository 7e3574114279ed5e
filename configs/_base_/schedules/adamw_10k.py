# The published schedule of VOC: 10k iterations with 32 images each, in single precision.
_base_ = 'adamw_60k.py'
optim_wrapper = dict(type='OptimWrapper')
param_scheduler = [dict(_base_.param_scheduler[0], end=10000)]
train_cfg = dict(max_iters=10000)
