# ZegFormer R101 on COCO-Stuff, 156 seen / 15 unseen: 60k iterations of 32 images. Not measured here; the released
# checkpoint gave seen 36.6, unseen 36.2 to a third party (issue 15 of the released code).
# The backbone starts from the MSRA (caffe) weights, stride in the 3x3 convolution, fed RGB as they are, as released.
# It trains on 8 prompt templates and is tested on 1.
_base_ = 'zegformer_r50_coco.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe'),
    ),
    decode_head=dict(classifier=dict(test_prompts='single')),
)
