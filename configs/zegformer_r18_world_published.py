# The world with the released losses: the released weights, and unlabelled pixels (objects of unseen classes among them)
# are background of every mask.
_base_ = 'zegformer_r18_world.py'
model = dict(
    decode_head=dict(
        assigner=dict(
            match_costs=[
                dict(type='mmdet.ClassificationCost', weight=1.0),
                dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
                dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
            ]
        ),
        loss_cls=dict(loss_weight=1.0),
        loss_dice=dict(loss_weight=1.0),
        ignore_unlabelled_in_masks=False,
    ),
    fusion=dict(lam=1.0, gamma=0.0),
)
