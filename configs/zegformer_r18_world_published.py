# The world with the released losses: unlabelled pixels, unseen things among them, are background of every mask.
_base_ = 'zegformer_r18_world.py'
model = dict(decode_head=dict(ignore_unlabelled=False))
