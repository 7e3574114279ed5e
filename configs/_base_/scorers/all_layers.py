# One class token for each mask, masked in all layers: the idea of MaskCLIP in ODISE (arXiv 2303.04803), whose code
# differs in input and masks. A mask over the complete image gives CLIP's own embedding. For open_clip's vision
# transformers. Use: see ip_clip.py.
scorer = dict(
    type='mmzeg.CLIPMaskScorer',
    input_size=None,
    antialias=True,
    # Above the number of layers of any model: all.
    num_masked_layers=1000,
    patches_see_class_token=True,
    mask_resize='area',
    position_resize=dict(mode='bicubic', antialias=True),
    empty_mask='best_cell',
)
