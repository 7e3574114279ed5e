# The procedural dataset: 34 seen and 8 unseen classes, drawn while it is loaded. Unseen classes are rarer in training
# scenes, as in COCO.
seen_classes = [
    'airplane',
    'rook',
    'queen',
    'pawn',
    'bishop',
    'heart',
    'spade',
    'flower',
    'scissors',
    'skull',
    'hand',
    'music note',
    'sun',
    'gear',
    'star',
    'hexagon',
    'triangle',
    'circle',
    'square',
    'ring',
    'cross',
    'maltese cross',
    'arrow',
    'check mark',
    'cloud',
    'hammer',
    'pen',
    'smiley',
    'radiation sign',
    'grass',
    'sand',
    'water',
    'sky',
    'wood',
]
unseen_classes = ['umbrella', 'anchor', 'knight', 'telephone', 'snowflake', 'flag', 'shamrock', 'brick']

dataset_type = 'mmzeg.WorldDataset'
size = 160
train_pipeline = [
    dict(type='mmzeg.DrawScene'),
    dict(type='mmzeg.RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='mmzeg.DrawScene'), dict(type='PackSegInputs')]
# Label maps are drawn with the scene and transformed with it. The metric uses the first, untransformed one.
tta_pipeline = [
    dict(type='mmzeg.DrawScene'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=factor) for factor in (1.0, 1.25)],
            [dict(type='mmzeg.RandomFlip', prob=0.0), dict(type='mmzeg.RandomFlip', prob=1.0)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
test_metainfo = dict(classes=[*seen_classes, *unseen_classes], unseen_classes=unseen_classes)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        split='train',
        length=100000,
        size=size,
        unseen_frequency=0.3,
        metainfo=dict(classes=seen_classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='val', length=100, size=size, metainfo=test_metainfo, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, split='test', length=300, size=size, metainfo=test_metainfo, pipeline=test_pipeline
    ),
)
val_evaluator = dict(type='mmzeg.ZeroShotMIoU')
test_evaluator = val_evaluator
