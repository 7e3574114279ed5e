# The paper's pixel-level baseline, SPNet-FPN: ZegFormer's backbone and pixel decoder, every pixel classified.
_base_ = 'zegformer_r50.py'
model = dict(
    _delete_=True,
    type='mmzeg.PerPixelSegmentor',
    data_preprocessor={{_base_.model.data_preprocessor}},
    backbone={{_base_.model.backbone}},
    decode_head=dict(
        type='mmzeg.PerPixelHead',
        feat_channels=256,
        out_channels=256,
        pixel_decoder={{_base_.model.decode_head.pixel_decoder}},
        classifier={{_base_.model.decode_head.classifier}},
        loss_cls=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    gamma=0.1,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
