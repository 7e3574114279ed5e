# CamVid, every class seen. data/camvid holds images/{train,val,test}/*.jpg and annotations/{train,val,test}/*.png.
seen_classes = [
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign symbol',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
]
unseen_classes = []

dataset_type = 'mmzeg.CamVidDataset'
data_root = 'data/camvid'
crop_size = (180, 240)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmzeg.LoadLabels'),
    dict(type='RandomResize', scale=(240, 180), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.9),
    dict(type='mmzeg.RandomFlip', prob=0.5),
    dict(type='mmzeg.PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='mmzeg.LoadLabels'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale in ((240, 180), (320, 240))],
            [dict(type='mmzeg.RandomFlip', prob=0.0), dict(type='mmzeg.RandomFlip', prob=1.0)],
            [dict(type='mmzeg.LoadLabels')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=seen_classes),
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=seen_classes, unseen_classes=unseen_classes),
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=test_pipeline,
    ),
)
test_prefix = dict(img_path='images/test', seg_map_path='annotations/test')
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], data_prefix=test_prefix))
val_evaluator = dict(type='mmzeg.ZeroShotMIoU')
test_evaluator = val_evaluator
