# ZegFormer R101 on Pascal VOC 2012, 15 seen / 5 unseen: 10k iterations with 32 images each. Not measured here.
# Paper: seen 86.4, unseen 63.6, harmonic mean 73.3.
# The authors call 10k iterations unstable; zegformer_r101_voc_30k.py trains longer.
_base_ = ['zegformer_r50_voc.py', '_base_/models/resnet101_caffe.py']
model = dict(backbone=_base_.resnet101, fusion=dict(mode='full', gamma=0.1))
