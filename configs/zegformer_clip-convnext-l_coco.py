# zegformer_clip-convnext-b_coco.py with FC-CLIP's own CLIP, ConvNeXt-L. Not measured here.
_base_ = 'zegformer_clip-convnext-b_coco.py'
clip = dict(model='convnext_large_d_320', pretrained='laion2b_s29b_b131k_ft_soup')
model = dict(backbone=dict(clip=clip), decode_head=dict(classifier=dict(text_encoder=clip)), scorer=dict(clip=clip))
