# A model of zegformer_r101_coco.py tested on Pascal Context 59, every class as if unseen. Not measured here.
_base_ = ['zegformer_r101_coco.py', '_base_/datasets/cross/pascal_context_59.py']
test_dataloader = dict(dataset=dict(_base_.cross_dataset, _delete_=True, pipeline=_base_.test_pipeline))
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=_base_.names, unseen=_base_.names),
            train_vocabulary=dict(classes=_base_.seen_classes),
            test_prompts='imagenet_select',
        )
    ),
    fusion=dict(gamma=0.0),
)
