# Pascal Context 59, every class treated as unseen, background ignored; label maps by mmseg's converter.
_base_ = '../../../../mmzeg/datasets/class_lists/pascal_context_59.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/VOCdevkit/VOC2010',
    ann_file='ImageSets/SegmentationContext/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
    labels={name: index + 1 for index, name in enumerate(_base_.names)},
    void=[0],
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
