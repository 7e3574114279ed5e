# Cityscapes, every class treated as unseen; label maps by mmseg's converter.
_base_ = '../../../../mmzeg/datasets/class_lists/cityscapes_19.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/cityscapes',
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    img_suffix='_leftImg8bit.png',
    seg_map_suffix='_gtFine_labelTrainIds.png',
    labels=_base_.names,
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
