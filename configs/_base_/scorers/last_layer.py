# One class token for each mask, masked in the last layer alone: "MaskCLIP" in Alpha-CLIP's table 2 (arXiv 2312.03818).
# For open_clip's vision transformers. Published for CLIP's own input size; how its masks come to the patches is not:
# here as in IP-CLIP. Use: see ip_clip.py.
scorer = dict(
    type='mmzeg.CLIPMaskScorer',
    input_size=None,
    num_masked_layers=1,
)
