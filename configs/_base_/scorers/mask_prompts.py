# OVSeg's mask prompt tuning (arXiv 2210.04150): one crop for each mask, learned prompts in place of the patches
# outside it. The weights come from OVSeg's released checkpoint:
# python tools/model_converters/ovseg.py ovseg_swinbase_vitL14_ft_mpt.pth ovseg_clip.pth
# _base_ = ['zegformer_r101_coco.py', '_base_/scorers/mask_prompts.py']
# model = dict(scorer=dict(_delete_=True, clip=dict(type='mmzeg.CLIP', pretrained='ovseg_clip.pth'), **_base_.scorer))
scorer = dict(
    type='mmzeg.CLIPMaskPromptScorer',
    # None: in CLIP's own file.
    mask_prompts=None,
    logit_scale=100.0,
)
