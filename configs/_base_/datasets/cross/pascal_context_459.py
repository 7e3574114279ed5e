# Pascal Context 459, every class treated as unseen; label maps by tools/dataset_converters/pascal_context_459.py.
_base_ = '../../../../mmzeg/datasets/class_lists/pascal_context_459.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/VOCdevkit/VOC2010',
    ann_file='ImageSets/SegmentationContext/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext459'),
    labels=_base_.names,
    ignore_index=65535,
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
