# A model of zegformer_r101_coco.py tested on Pascal Context 59, every class treated as unseen. Not measured here.
_base_ = ['zegformer_r101_coco.py', '_base_/datasets/cross/pascal_context_59.py']
test_dataloader = dict(dataset=dict(_base_.cross_dataset, _delete_=True, pipeline=_base_.test_pipeline))
model = dict(
    decode_head=dict(classifier=dict(_base_.cross_classifier, train_vocabulary=dict(classes=_base_.seen_classes))),
    fusion=dict(gamma=0.0),
)
