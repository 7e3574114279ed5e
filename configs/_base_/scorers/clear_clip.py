# Patches of CLIP's vision transformer under each mask, the last layer run as in ClearCLIP (arXiv 2407.12442): queries
# compared with queries, no residual connection and no feed-forward network. ClearCLIP labels patches in windows of 448;
# here the complete image is one pass, and patches are averaged under masks. Use: see ip_clip.py.
scorer = dict(
    type='mmzeg.CLIPDensePoolScorer',
    input_size=448,
    last_attention='query-query',
    position_resize=dict(mode='bicubic'),
)
