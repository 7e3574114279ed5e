# zegformer_clip-convnext-b_coco.py with OpenAI's CLIP ResNet-50. Not measured here.
# Scorer and fusion are those of _base_/scorers/fc_clip_resnet.py.
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
