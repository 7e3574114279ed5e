# The MSRA (caffe) weights of ResNet-101, stride in the 3x3 convolution, fed RGB as they are, as released.
resnet101 = dict(
    depth=101,
    init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe'),
)
