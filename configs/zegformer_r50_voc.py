# ZegFormer R50 on Pascal VOC 2012, 15 seen / 5 unseen: 10k iterations with 32 images each. Not measured here.
# As in the released config of R50, the test uses only CLIP's scores (fusion mode img) and no calibration.
_base_ = [
    '_base_/models/zegformer_r50.py',
    '_base_/datasets/voc12_15_5.py',
    '_base_/schedules/adamw_10k.py',
    '_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=_base_.all_classes, unseen=_base_.unseen_classes),
            train_prompts='single',
            test_prompts='single',
        )
    ),
    fusion=dict(mode='img', gamma=0.0),
)
