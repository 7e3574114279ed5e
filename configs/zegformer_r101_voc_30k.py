# As zegformer_r101_voc.py, for 30k iterations of 32 images. Not measured here.
_base_ = 'zegformer_r101_voc.py'
param_scheduler = [dict(_base_.param_scheduler[0], end=30000)]
train_cfg = dict(max_iters=30000)
