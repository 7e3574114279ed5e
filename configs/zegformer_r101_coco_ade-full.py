# A model of zegformer_r101_coco.py tested on ADE20K-Full (847), every class treated as unseen. Not measured here.
# As in the released config of this pair, only CLIP's scores are used (fusion mode img).
_base_ = ['zegformer_r101_coco.py', '_base_/datasets/cross/ade20k_full_847.py']
test_dataloader = dict(dataset=dict(_base_.cross_dataset, _delete_=True, pipeline=_base_.test_pipeline))
test_evaluator = dict(ignore_index=65535)
model = dict(
    decode_head=dict(classifier=dict(_base_.cross_classifier, train_vocabulary=dict(classes=_base_.seen_classes))),
    fusion=dict(mode='img', gamma=0.0),
)
