# ResNet-101 with MSRA's (caffe) weights, as in the released code: stride in the 3x3 convolution, RGB input.
resnet101 = dict(
    depth=101,
    init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe'),
)
