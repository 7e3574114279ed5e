# COCO-Stuff 164k, 156 seen and 15 unseen classes, in the layout of MMSegmentation's documentation, by its converter.
_base_ = ['loaders.py', '../../../mmzeg/datasets/splits/coco_stuff_156_15.json']
seen_classes, unseen_classes = _base_.seen, _base_.unseen

dataset_type = 'COCOStuffDataset'
data_root = 'data/coco_stuff164k'
crop_size = (640, 640)

train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmzeg.LoadLabels'),
    dict(
        type='RandomChoiceResize',
        scales=[64 * k for k in range(5, 16)],
        resize_type='mmzeg.ResizeShortestEdge',
        max_size=2560,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='mmzeg.PhotoMetricDistortion'),
    dict(type='mmzeg.RandomFlip', prob=0.5),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(128, 128, 128), seg=255)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmzeg.ResizeShortestEdge', scale=640, max_size=2560),
    dict(type='mmzeg.LoadLabels'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmzeg.ResizeShortestEdge', scale=scale, max_size=2560) for scale in (512, 640, 768)],
            [dict(type='mmzeg.RandomFlip', prob=0.0), dict(type='mmzeg.RandomFlip', prob=1.0)],
            [dict(type='mmzeg.LoadLabels')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=seen_classes),
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=[*seen_classes, *unseen_classes], unseen_classes=unseen_classes),
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
