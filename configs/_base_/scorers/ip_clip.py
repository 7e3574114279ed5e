# IP-CLIP, untrained (MAFT, arXiv 2310.00240), as its code has it: one pass at 480 x 480, a class token for each mask,
# masked in the last third of the layers. For open_clip's vision transformers. These are CLIPMaskScorer's defaults
# but for the fixed logit scale.
# _base_ = ['zegformer_r101_coco.py', '_base_/scorers/ip_clip.py']
# model = dict(scorer=dict(_delete_=True, clip=_base_.clip, **_base_.scorer))
scorer = dict(
    type='mmzeg.CLIPMaskScorer',
    # The image is squashed to this size.
    input_size=(480, 480),
    antialias=False,
    # None: the last third of the layers.
    num_masked_layers=None,
    patches_see_class_token=False,
    mask_resize='bilinear',
    position_resize=dict(mode='bicubic', align_corners=True),
    empty_mask='class_token',
    logit_scale=100.0,
)
