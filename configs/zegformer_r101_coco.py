# ZegFormer R101 on COCO-Stuff, 156 seen / 15 unseen: 60k iterations with 32 images each. Not measured here.
# Paper: seen 36.6, unseen 33.2, harmonic mean 34.8. Released checkpoint, measured by a third party: seen 36.6, unseen
# 36.2 (github.com/dingjiansw101/ZegFormer, issue 15).
# As released: 8 prompt templates in training, 1 in the test.
_base_ = ['zegformer_r50_coco.py', '_base_/models/resnet101_caffe.py']
model = dict(backbone=_base_.resnet101, decode_head=dict(classifier=dict(test_prompts='single')))
