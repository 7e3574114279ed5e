# ZegFormer on Swin-T, otherwise the published recipe. Not measured here.
_base_ = 'zegformer_r50_coco.py'
model = dict(
    backbone=dict(_delete_=True, type='SwinTransformer', embed_dims=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24])
)
