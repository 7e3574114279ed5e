# A model of zegformer_r101_coco.py tested on ADE20K-150, every class treated as unseen. Not measured here.
# The authors report 16.4 mIoU (github.com/dingjiansw101/ZegFormer, issue 6).
_base_ = ['zegformer_r101_coco.py', '_base_/datasets/cross/ade20k_150.py']
test_dataloader = dict(dataset=dict(_base_.cross_dataset, _delete_=True, pipeline=_base_.test_pipeline))
model = dict(
    decode_head=dict(classifier=dict(_base_.cross_classifier, train_vocabulary=dict(classes=_base_.seen_classes))),
    fusion=dict(gamma=0.0),
)
