# The published schedule of VOC: 10k iterations of 32 images, in single precision.
_base_ = 'adamw_60k.py'
optim_wrapper = dict(type='OptimWrapper')
param_scheduler = [dict(_base_.param_scheduler[0], end=10000)]
train_cfg = dict(max_iters=10000)
