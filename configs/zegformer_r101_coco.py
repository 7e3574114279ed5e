# ZegFormer R101 on COCO-Stuff, 156 seen / 15 unseen: 60k iterations of 32 images. Not measured here. The paper's:
# seen 36.6, unseen 33.2, harmonic mean 34.8. The released checkpoint gave seen 36.6, unseen 36.2 to a third party
# (issue 15 of the released code).
# It trains on 8 prompt templates and is tested on 1.
_base_ = ['zegformer_r50_coco.py', '_base_/models/resnet101_caffe.py']
model = dict(backbone=_base_.resnet101, decode_head=dict(classifier=dict(test_prompts='single')))
