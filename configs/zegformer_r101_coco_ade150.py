# A model of zegformer_r101_coco.py tested on ADE20K-150, every class as if unseen. Not measured here.
# The authors report 16.4 mIoU (issue 6 of the released code).
_base_ = ['zegformer_r101_coco.py', '_base_/datasets/cross/ade20k_150.py']
test_dataloader = dict(dataset=dict(_base_.cross_dataset, _delete_=True, pipeline=_base_.test_pipeline))
model = dict(
    decode_head=dict(classifier=dict(_base_.cross_names, train_vocabulary=dict(classes=_base_.seen_classes))),
    fusion=dict(gamma=0.0),
)
