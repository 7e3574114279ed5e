# ADE20K-150 (ADEChallengeData2016), every class treated as unseen; class names of MaskFormer and OVSeg.
_base_ = '../../../../mmzeg/datasets/class_lists/ade20k_150.json'
cross_dataset = dict(
    type='mmzeg.FolderDataset',
    data_root='data/ade/ADEChallengeData2016',
    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    labels={name: index + 1 for index, name in enumerate(_base_.names)},
    void=[0],
    metainfo=dict(classes=_base_.names, unseen_classes=_base_.names),
)
cross_classifier = dict(vocabulary=dict(classes=_base_.names, unseen=_base_.names), test_prompts='imagenet_select')
