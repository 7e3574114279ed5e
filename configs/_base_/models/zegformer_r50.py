# ZegFormer as published, ResNet-50. For another backbone replace backbone=dict(...); the head reads its channels.
clip = dict(type='mmzeg.CLIP', model='ViT-B-16-quickgelu', pretrained='openai')
attention = dict(
    embed_dims=256,
    num_heads=8,
    attn_drop=0.1,
    proj_drop=0.0,
    dropout_layer=dict(type='Dropout', drop_prob=0.1),
    batch_first=True,
)
model = dict(
    type='mmzeg.ZegFormer',
    data_preprocessor=dict(
        type='mmzeg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size_divisor=32,
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    decode_head=dict(
        type='mmzeg.ZegFormerHead',
        feat_channels=256,
        out_channels=256,
        num_queries=100,
        pixel_decoder=dict(
            type='mmdet.PixelDecoder', norm_cfg=dict(type='GN', num_groups=32), act_cfg=dict(type='ReLU')
        ),
        transformer_decoder=dict(
            num_layers=6,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(
                    embed_dims=256,
                    feedforward_channels=2048,
                    num_fcs=2,
                    ffn_drop=0.1,
                    act_cfg=dict(type='ReLU', inplace=True),
                ),
            ),
        ),
        positional_encoding=dict(num_feats=128, normalize=True),
        classifier=dict(type='mmzeg.CLIPTextClassifier', text_encoder=clip, tau=0.01),
        assigner=dict(
            type='mmzeg.HungarianAssigner',
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=1.0),
                dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
                dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
            ],
        ),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        no_object_weight=0.1,
        loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0),
    ),
    scorer=dict(type='mmzeg.CLIPCropScorer', clip=clip, prompts='imagenet_select_clip', crop_mode='cropmask'),
    fusion=dict(mode='full', lam=2 / 3, gamma=0.1),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
