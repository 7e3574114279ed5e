# ZegFormer's head on a frozen CLIP ConvNeXt-B, which is backbone, scorer and text encoder in one, on COCO-Stuff.
# Not measured here.
# As FC-CLIP (arXiv 2308.02487): CLIP's normalization, deformable pixel decoder, masked attention, CLIP's last map
# pooled under the masks, geometric ensemble without calibration.
# As ZegFormer: 100 queries, losses, schedule, classifier and prompts. Queries attend to the map of stride 32 only.
_base_ = ['zegformer_r50_coco.py', '_base_/scorers/fc_clip_convnext.py']
clip = dict(type='mmzeg.CLIP', model='convnext_base_w_320', pretrained='laion_aesthetic_s13b_b82k_augreg')
deformable_layer = dict(
    self_attn_cfg=dict(embed_dims=256, num_heads=8, num_levels=3, num_points=4, dropout=0.0, batch_first=True),
    ffn_cfg=dict(
        embed_dims=256,
        feedforward_channels=1024,
        num_fcs=2,
        ffn_drop=0.0,
        act_cfg=dict(type='ReLU', inplace=True),
    ),
)
model = dict(
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
    ),
    backbone=dict(_delete_=True, type='mmzeg.CLIPBackbone', clip=clip),
    decode_head=dict(
        masked_attention=True,
        pixel_decoder=dict(
            _delete_=True,
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(num_layers=6, layer_cfg=deformable_layer),
            positional_encoding=dict(num_feats=128, normalize=True),
        ),
        classifier=dict(text_encoder=clip),
    ),
    # The image is not resized, so that the backbone's last map is reused.
    scorer=dict(_delete_=True, clip=clip, prompts='imagenet_select_clip', **_base_.scorer),
    fusion=dict(_delete_=True, **_base_.fusion),
)
