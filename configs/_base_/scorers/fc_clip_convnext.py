# FC-CLIP with a ConvNeXt (arXiv 2308.02487), scorer and fusion as its code has them: CLIP's last map pooled under each
# mask, geometric ensemble. zegformer_clip-convnext-*_coco.py share one CLIP with the backbone.
# _base_ = ['zegformer_r101_coco.py', '_base_/scorers/fc_clip_convnext.py']
# clip = dict(type='mmzeg.CLIP', model='convnext_large_d_320', pretrained='laion2b_s29b_b131k_ft_soup')
# model = dict(
#     scorer=dict(_delete_=True, clip=clip, **_base_.scorer), fusion=dict(_delete_=True, **_base_.fusion)
# )
scorer = dict(
    type='mmzeg.CLIPDensePoolScorer',
    # The network's input, not resized.
    input_size='image',
    mask_resize='bilinear_logits',
    empty_mask='zero_features',
    logit_scale=100.0,
)
fusion = dict(mode='geometric', alpha=0.4, beta=0.8, gamma=0.0)
