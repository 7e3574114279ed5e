# Data loaders and metric of the published benchmarks: 4 images per process in training, 1 image at a time in the test.
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    # A thread copies images to pinned memory, from which copies to a GPU do not wait.
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmzeg.ZeroShotMIoU')
test_evaluator = val_evaluator
