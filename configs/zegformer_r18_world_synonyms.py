# A model of zegformer_r18_world.py tested with another vocabulary: synonyms, and a class that is in no scene.
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
test_classes = [*(synonyms.get(name, name) for name in _base_.seen_classes), *unseen_classes]
test_metainfo = dict(classes=test_classes, unseen_classes=unseen_classes)
synonyms_dataset = dict(type='mmzeg.WorldSynonymsDataset', metainfo=test_metainfo)
val_dataloader = dict(dataset=synonyms_dataset)
test_dataloader = dict(dataset=synonyms_dataset)
model = dict(
    decode_head=dict(
        classifier=dict(
            vocabulary=dict(classes=test_classes, unseen=unseen_classes),
            train_vocabulary=dict(classes=_base_.seen_classes),
        )
    )
)
