# The world's pixel-level baseline: SPNet-FPN with ZegFormer's backbone, pixel decoder, data and schedule.
_base_ = 'zegformer_r18_world.py'
model = dict(
    _delete_=True,
    type='mmzeg.PerPixelSegmentor',
    data_preprocessor={{_base_.model.data_preprocessor}},
    backbone={{_base_.model.backbone}},
    decode_head=dict(
        type='mmzeg.PerPixelHead',
        feat_channels={{_base_.model.decode_head.feat_channels}},
        out_channels={{_base_.model.decode_head.out_channels}},
        pixel_decoder={{_base_.model.decode_head.pixel_decoder}},
        classifier={{_base_.model.decode_head.classifier}},
        loss_cls=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    gamma=0.0,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
