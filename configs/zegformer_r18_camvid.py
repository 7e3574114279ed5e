# ZegFormer-seg, R18, 64 channels, 30 queries, on CamVid: every class seen, from scratch, 2,500 iterations with 4 images
# of 240 x 180 each. The class embeddings are 64-d orthonormal vectors from a file (rows of a seeded QR), not CLIP's.
_base_ = [
    '_base_/models/zegformer_r50.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/adamw_2500.py',
    '_base_/default_runtime.py',
]
narrow_attention = dict(embed_dims=64, num_heads=4, attn_drop=0.0, dropout_layer=dict(type='Dropout', drop_prob=0.0))
model = dict(
    backbone=dict(depth=18, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False, init_cfg=None),
    decode_head=dict(
        feat_channels=64,
        out_channels=64,
        num_queries=30,
        pixel_decoder=dict(norm_cfg=dict(num_groups=8)),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=narrow_attention,
                cross_attn_cfg=narrow_attention,
                ffn_cfg=dict(embed_dims=64, feedforward_channels=256, ffn_drop=0.0),
            ),
        ),
        positional_encoding=dict(num_feats=32),
        classifier=dict(
            text_encoder=dict(
                _delete_=True,
                type='mmzeg.EmbeddingFile',
                path='{{ fileDirname }}/_base_/datasets/camvid_embeddings.npz',
            ),
            vocabulary=dict(classes=_base_.seen_classes),
        ),
    ),
    scorer=None,
    fusion=dict(mode='seg', gamma=0.0),
)
default_hooks = dict(checkpoint=dict(interval=250))
