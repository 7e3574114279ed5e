# zegformer_clip-convnext-b_coco.py with OpenAI's CLIP ResNet-50. Not measured here.
# As FC-CLIP with a ResNet: CLIP's attention pool on the masks' cells; a mask without cells is left to the head.
_base_ = 'zegformer_clip-convnext-b_coco.py'
clip = dict(model='RN50-quickgelu', pretrained='openai')
model = dict(
    backbone=dict(clip=clip),
    decode_head=dict(classifier=dict(text_encoder=clip)),
    scorer=dict(
        clip=clip,
        attn_pool_query='image',
        position_resize=dict(mode='bilinear'),
        empty_mask='zero_embedding',
    ),
    fusion=dict(ensemble_on_valid_mask=True),
)
