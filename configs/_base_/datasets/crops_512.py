# Pipelines of VOC and ADE20K-Full, as in the released code: training crops of 512 x 512 from images whose short side is
# resized to 256 to 1,024 pixels; test images with a short side of 512.
_base_ = 'loaders.py'
crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmzeg.LoadLabels'),
    dict(
        type='RandomChoiceResize',
        scales=[512 * k // 10 for k in range(5, 21)],
        resize_type='mmzeg.ResizeShortestEdge',
        max_size=2048,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='mmzeg.PhotoMetricDistortion'),
    dict(type='mmzeg.RandomFlip', prob=0.5),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(128, 128, 128), seg=255)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmzeg.ResizeShortestEdge', scale=512, max_size=2048),
    dict(type='mmzeg.LoadLabels'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmzeg.ResizeShortestEdge', scale=scale, max_size=2048) for scale in (384, 512, 640)],
            [dict(type='mmzeg.RandomFlip', prob=0.0), dict(type='mmzeg.RandomFlip', prob=1.0)],
            [dict(type='mmzeg.LoadLabels')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
