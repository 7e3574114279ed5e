# Masks of mmseg's MaskFormer R50 of ADE20K, its classes thrown away, classified by CLIP. Nothing is trained; the
# checkpoint is the one of mmseg's model zoo. Not measured here.
# The test is Pascal Context 59, every class treated as unseen.
_base_ = 'proposals_files.py'
model = dict(
    proposals=dict(
        _delete_=True,
        type='mmzeg.ModelProposals',
        config='mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
    )
)
