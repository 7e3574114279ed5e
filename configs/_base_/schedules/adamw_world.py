# 1,000 iterations with 8 scenes each, 8 minutes on two cores. With three times the learning rate the model needs many
# more iterations to classify objects.
max_iters = 1000
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmzeg.NoDecayConstructor',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=1e-2),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    # At a higher rate the backbone soon forgets what its pretraining learned about objects.
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.3)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
