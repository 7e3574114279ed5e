# Pascal VOC 2012 with SBD's masks, 15 seen and 5 unseen classes, background ignored. The layout is that of
# MMSegmentation's documentation; its tools/dataset_converters/voc_aug.py writes SegmentationClassAug and aug.txt.
_base_ = ['crops_512.py', '../../../mmzeg/datasets/splits/voc12_15_5.json']
seen_classes, unseen_classes = _base_.seen, _base_.unseen
all_classes = [*seen_classes, *unseen_classes]

data_root = 'data/VOCdevkit/VOC2012'
voc = dict(
    type='mmzeg.FolderDataset',
    data_root=data_root,
    labels=_base_.label_value,
    void=[0],
)
train = dict(voc, metainfo=dict(classes=seen_classes), pipeline=_base_.train_pipeline)
train_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                train,
                ann_file='ImageSets/Segmentation/train.txt',
                data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ),
            dict(
                train,
                ann_file='ImageSets/Segmentation/aug.txt',
                data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
            ),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        voc,
        metainfo=dict(classes=all_classes, unseen_classes=unseen_classes),
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
