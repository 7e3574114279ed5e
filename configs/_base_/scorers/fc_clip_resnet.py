# FC-CLIP with a ResNet (arXiv 2308.02487), scorer and fusion as its code has them: CLIP's attention pool on the cells
# of each mask, geometric ensemble. A mask without cells is left to the head. Use: see fc_clip_convnext.py, with
# clip = dict(type='mmzeg.CLIP', model='RN50-quickgelu', pretrained='openai')
scorer = dict(
    type='mmzeg.CLIPDensePoolScorer',
    # The network's input, not resized.
    input_size='image',
    mask_resize='bilinear_logits',
    position_resize=dict(mode='bilinear'),
    attn_pool_query='image',
    empty_mask='zero_embedding',
    logit_scale=100.0,
)
fusion = dict(mode='geometric', alpha=0.4, beta=0.8, gamma=0.0, ensemble_on_valid_mask=True)
