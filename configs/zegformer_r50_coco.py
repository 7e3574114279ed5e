# ZegFormer R50 on COCO-Stuff, 156 seen / 15 unseen: 60k iterations with 32 images each. Not measured here.
_base_ = [
    '_base_/models/zegformer_r50.py',
    '_base_/datasets/coco_stuff_156_15.py',
    '_base_/schedules/adamw_60k.py',
    '_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=[*_base_.seen_classes, *_base_.unseen_classes], unseen=_base_.unseen_classes),
            train_prompts='imagenet_select',
            test_prompts='imagenet_select',
        )
    ),
    # Evaluation needs only label maps; the semantic map of 171 classes would take most of the memory.
    test_cfg=dict(return_logits=False),
)
