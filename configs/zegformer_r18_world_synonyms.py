# A model of zegformer_r18_world.py tested under another vocabulary: synonyms, and a class that no scene holds.
_base_ = 'zegformer_r18_world.py'
synonyms = {
    'airplane': 'plane',
    'rook': 'tower',
    'queen': 'crown',
    'flower': 'blossom',
    'skull': 'skeleton',
    'music note': 'melody',
    'gear': 'cogwheel',
    'circle': 'disc',
    'square': 'box',
    'ring': 'hoop',
    'check mark': 'tick',
    'hammer': 'tools',
    'smiley': 'face',
    'grass': 'lawn',
    'sand': 'beach',
    'water': 'sea',
    'wood': 'timber',
}
unseen_classes = ['parasol', 'anchor', 'horse', 'phone', 'snowflake', 'flag', 'clover', 'wall', 'zebra']
every_name = [*(synonyms.get(name, name) for name in _base_.seen_classes), *unseen_classes]
renamed = dict(type='mmzeg.WorldSynonymsDataset', metainfo=dict(classes=every_name, unseen_classes=unseen_classes))
val_dataloader = dict(dataset=renamed)
test_dataloader = dict(dataset=renamed)
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=every_name, unseen=unseen_classes),
            train_vocabulary=dict(classes=_base_.seen_classes),
        )
    )
)
