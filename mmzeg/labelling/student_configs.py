"""Texts of the configs that ``mmzeg.labelling.student`` writes: complete files that a user may edit.

``DATASET`` is formatted with the values of a labelled folder. The other files are written as they stand.
"""

DATASET = """\
# Images and the label maps that ZegFormer wrote for them. Written by tools/label.py, which writes it again.
# The folder of the images: the only line to change if images or label maps move to another machine.
images = {images!r}
labelled = '{{{{ fileDirname }}}}'
# Class names in the order of their values in the label maps, each with its RGB colour.
colours = [
{colours}
]
classes = [name for name, _ in colours]
palette = [colour for _, colour in colours]
# Value of pixels without a class. Dataset, crop, padding, losses and metric read it.
ignore_index = {ignore_index}
# {num_images} images, median size {width} x {height}. The shorter side is resized to {side} pixels: the median of the
# shorter sides to the nearest multiple of 32, but at least 64 and at most 512. Training crops are square.
side = {side}
crop_size = (side, side)
# {epochs} passes over the training images, but at least {min_iters} and at most {max_iters_limit} iterations.
batch_size = {batch_size}
max_iters = {max_iters}

scale = (4 * side, side)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmzeg.LoadLabels'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75, ignore_index=ignore_index),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# At test every type is mmseg's or mmcv's: mmseg runs the trained model where mmzeg is not installed.
{test_labels}
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    load_labels,
    dict(type='PackSegInputs'),
]
labelled_images = dict(
    type='mmzeg.FolderDataset',
    data_root=labelled,
    data_prefix=dict(img_path=images, seg_map_path='annotations'),
    img_suffix={img_suffix!r},
    labels=classes,
    metainfo=dict(classes=classes, palette=palette),
    ignore_index=ignore_index,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(labelled_images, ann_file='splits/train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(labelled_images, ann_file='splits/val.txt', pipeline=test_pipeline),
)
# The same images: mIoU is the agreement with ZegFormer's labels. To measure accuracy, set data_root, data_prefix and
# ann_file to images that people annotated with these classes.
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
test_evaluator = val_evaluator
"""

# How the test pipeline loads label maps of 8 bits, and of 16.
TEST_LABELS_8_BITS = "load_labels = dict(type='LoadAnnotations')"
TEST_LABELS_16_BITS = """\
# mmseg's LoadAnnotations keeps 8 bits of a value; that of mmcv keeps all 16.
load_labels = dict(
    type='LoadAnnotations',
    _scope_='mmengine',
    with_bbox=False,
    with_label=False,
    with_seg=True,
    imdecode_backend='pillow',
)"""

RUNTIME = """\
# What both trainings have in common: preparation of images, loops, hooks and logs.
_base_ = 'dataset.py'
interval = max(1, _base_.max_iters // 10)
warmup_iters = max(1, min(1000, _base_.max_iters // 10))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=_base_.max_iters, val_interval=interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# The preparation of images in both models.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=_base_.crop_size,
    pad_val=0,
    seg_pad_val=_base_.ignore_index,
    test_cfg=dict(size_divisor=32),
)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmzeg.AtomicCheckpointHook', by_epoch=False, interval=interval, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmzeg.SegVisualizationHook'),
    pipeline_check=dict(type='mmzeg.PipelineCheckHook'),
)
# On several GPUs, batch norm over the images of all of them:
# sync_bn = 'torch'
"""

SEGFORMER = """\
# SegFormer-B0 on the labelled images: mmseg's model.
_base_ = 'runtime.py'
work_dir = '{{ fileDirname }}/segformer'
# Weights that the backbone starts from: a file or an address. None starts from random weights, without a download.
# ImageNet weights, as mmseg's configs have them:
# https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth
pretrained = None
# mmseg's rates fit its pretrained backbone: ten times as high in the head. Random weights need a high one everywhere.
lr = 6e-5 if pretrained else 6e-4
head_lr_mult = 10.0 if pretrained else 1.0

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        type='MixVisionTransformer',
        embed_dims=32,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained) if pretrained else None,
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[32, 64, 160, 256],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=len(_base_.classes),
        ignore_index=_base_.ignore_index,
        norm_cfg=norm_cfg,
        align_corners=False,
        # The mean over pixels that have a class.
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'pos_block': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
            'head': dict(lr_mult=head_lr_mult),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=_base_.warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=_base_.warmup_iters, end=_base_.max_iters, by_epoch=False),
]
"""

FAST_SCNN = """\
# Fast-SCNN on the labelled images: mmseg's model, which its paper trains from random weights too. Every process needs
# two images or more in an iteration, for the batch norm after its pooling.
_base_ = 'runtime.py'
work_dir = '{{ fileDirname }}/fast_scnn'

norm_cfg = dict(type='BN', requires_grad=True)
# The mean over pixels that have a class.
loss = dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True)
head = dict(
    num_classes=len(_base_.classes),
    ignore_index=_base_.ignore_index,
    concat_input=False,
    norm_cfg=norm_cfg,
    align_corners=False,
)
auxiliary = dict(head, type='FCNHead', channels=32, num_convs=1, loss_decode=dict(loss, loss_weight=0.4))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        type='FastSCNN',
        downsample_dw_channels=(32, 48),
        global_in_channels=64,
        global_block_channels=(64, 96, 128),
        global_block_strides=(2, 2, 1),
        global_out_channels=128,
        higher_in_channels=64,
        lower_in_channels=128,
        fusion_out_channels=128,
        out_indices=(0, 1, 2),
        norm_cfg=norm_cfg,
        align_corners=False,
    ),
    decode_head=dict(
        head, type='DepthwiseSeparableFCNHead', in_channels=128, in_index=-1, channels=128, loss_decode=loss
    ),
    # Heads that only training uses.
    auxiliary_head=[dict(auxiliary, in_channels=128, in_index=-2), dict(auxiliary, in_channels=64, in_index=-3)],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
# mmseg's schedule, whose rate 0.12 is for 32 images in an iteration.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.12 * _base_.batch_size / 32, momentum=0.9, weight_decay=4e-5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=_base_.warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=_base_.warmup_iters, end=_base_.max_iters, by_epoch=False),
]
"""
