# SPNet-FPN R50 on ADE20K-Full, 572 seen / 275 unseen, trained like ZegFormer. Not measured here.
_base_ = [
    '_base_/models/per_pixel_r50.py',
    '_base_/datasets/ade20k_full_572_275.py',
    '_base_/schedules/adamw_60k.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(seg_pad_val=_base_.ignore_index),
    decode_head=dict(
        classifier=dict(vocabulary=dict(classes=_base_.all_classes, unseen=_base_.unseen_classes)),
        ignore_index=_base_.ignore_index,
    ),
)
optim_wrapper = dict(type='OptimWrapper')
