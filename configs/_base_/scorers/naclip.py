# Patches of CLIP's vision transformer under each mask, the last layer run as in NACLIP (arXiv 2404.08181): keys are
# compared with keys, with a Gaussian window around each patch, without residual connection and feed-forward network.
# NACLIP labels patches in windows of 224; here the complete image is one pass, and patches are averaged under masks.
# Use: see ip_clip.py.
scorer = dict(
    type='mmzeg.CLIPDensePoolScorer',
    last_attention='key-key',
    neighborhood_std=5.0,
    position_resize=dict(mode='bicubic'),
)
