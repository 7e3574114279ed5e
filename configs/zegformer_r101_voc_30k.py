# zegformer_r101_voc.py with 30k iterations with 32 images each. Not measured here.
_base_ = 'zegformer_r101_voc.py'
param_scheduler = [dict(_base_.param_scheduler[0], end=30000)]
train_cfg = dict(max_iters=30000)
