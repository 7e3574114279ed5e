# SPNet-FPN R50 on Pascal VOC 2012, 15 seen / 5 unseen, trained like ZegFormer. Not measured here.
_base_ = [
    '_base_/models/per_pixel_r50.py',
    '_base_/datasets/voc12_15_5.py',
    '_base_/schedules/adamw_10k.py',
    '_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(classifier=dict(vocabulary=dict(classes=_base_.all_classes, unseen=_base_.unseen_classes)))
)
