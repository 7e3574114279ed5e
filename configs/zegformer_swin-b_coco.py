# ZegFormer with Swin-B; the published settings otherwise. Not measured here.
_base_ = 'zegformer_swin-t_coco.py'
model = dict(
    backbone=dict(
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/'
            'swin/swin_base_patch4_window7_224_20220317-e9b98025.pth'
        ),
    )
)
