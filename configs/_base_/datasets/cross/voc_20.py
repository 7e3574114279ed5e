# Pascal VOC 2012, every class treated as unseen, background ignored.
_base_ = '../../../../mmzeg/datasets/class_lists/voc_20.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/VOCdevkit/VOC2012',
    ann_file='ImageSets/Segmentation/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    labels={name: index + 1 for index, name in enumerate(_base_.names)},
    void=[0],
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
