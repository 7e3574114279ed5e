# Masks from files, such as those that SAM's tools write, classified by CLIP. Nothing is trained; give "none" as
# checkpoint. Not measured here. The test is Pascal Context 59, every class treated as unseen.
# python tools/demo.py configs/proposals_files.py none photos --classes "cat; dog; sofa" --out results \
#     --cfg-options model.proposals.folder=masks
_base_ = ['_base_/datasets/cross/pascal_context_59.py', '_base_/default_runtime.py']
model = dict(
    type='mmzeg.ProposalSegmentor',
    proposals=dict(type='mmzeg.FileProposals', folder='data/VOCdevkit/VOC2010/proposals'),
    decode_head=dict(
        type='mmzeg.ProposalHead',
        classifier=dict(type='mmzeg.ObjectnessClassifier', vocabulary=_base_.cross_classifier.vocabulary),
    ),
    scorer=dict(
        type='mmzeg.CLIPMaskScorer',
        clip=dict(type='mmzeg.CLIP', model='ViT-B-16-quickgelu', pretrained='openai'),
        prompts='imagenet_select_clip',
    ),
    test_cfg=dict(mode='whole', return_logits=False),
)
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmzeg.ResizeShortestEdge', scale=512, max_size=2048),
    dict(type='mmzeg.LoadLabels'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmzeg.ResizeShortestEdge', scale=scale, max_size=2048) for scale in (512, 640)],
            [dict(type='mmzeg.RandomFlip', prob=0.0), dict(type='mmzeg.RandomFlip', prob=1.0)],
            [dict(type='mmzeg.LoadLabels')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(_base_.cross_dataset, pipeline=test_pipeline),
)
test_evaluator = dict(type='mmzeg.ZeroShotMIoU')
test_cfg = dict(type='TestLoop')
