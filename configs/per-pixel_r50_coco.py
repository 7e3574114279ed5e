# SPNet-FPN R50 on COCO-Stuff, 156 seen / 15 unseen, trained like ZegFormer. Not measured here.
_base_ = [
    '_base_/models/per_pixel_r50.py',
    '_base_/datasets/coco_stuff_156_15.py',
    '_base_/schedules/adamw_60k.py',
    '_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=[*_base_.seen_classes, *_base_.unseen_classes], unseen=_base_.unseen_classes)
        )
    )
)
