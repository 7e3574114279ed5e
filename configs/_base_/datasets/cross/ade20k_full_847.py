# ADE20K-Full, every class treated as unseen; converted by tools/dataset_converters/ade20k_full.py.
_base_ = '../../../../mmzeg/datasets/class_lists/ade20k_full_847.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/ade20k_full',
    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    labels=_base_.names,
    ignore_index=65535,
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
