# ADE20K-Full, 572 seen and 275 unseen classes by frequency. tools/dataset_converters/ade20k_full.py converts the 2021
# release: 16-bit label maps whose values are indices in this list, 65535 where there is no class.
_base_ = ['crops_512.py', '../../../mmzeg/datasets/class_lists/ade20k_full_847.json']
all_classes = _base_.names
seen_classes, unseen_classes = all_classes[:572], all_classes[572:]
ignore_index = 65535

ade = dict(
    type='mmzeg.FolderDataset',
    data_root='data/ade20k_full',
    labels=all_classes,
    ignore_index=ignore_index,
)
*transforms, pad, pack = _base_.train_pipeline
train_pipeline = [*transforms, dict(pad, pad_val=dict(img=(128, 128, 128), seg=ignore_index)), pack]
train_dataloader = dict(
    dataset=dict(
        ade,
        metainfo=dict(classes=seen_classes),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ade,
        metainfo=dict(classes=all_classes, unseen_classes=unseen_classes),
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ignore_index=ignore_index)
test_evaluator = val_evaluator
