"""The classes of the world: 36 objects, whose shapes are glyphs of DejaVu Sans, and 6 textures."""

# Class name -> code point of its glyph.

OBJECTS = {
    'umbrella': 0x2602,
    'airplane': 0x2708,
    'anchor': 0x2693,
    'knight': 0x265E,
    'rook': 0x265C,
    'queen': 0x265B,
    'pawn': 0x265F,
    'bishop': 0x265D,
    'heart': 0x2665,
    'spade': 0x2660,
    'flower': 0x273F,
    'telephone': 0x260E,
    'scissors': 0x2702,
    'snowflake': 0x2744,
    'skull': 0x2620,
    'hand': 0x261B,
    'flag': 0x2691,
    'music note': 0x266B,
    'sun': 0x2600,
    'gear': 0x2699,
    'star': 0x2605,
    'hexagon': 0x2B22,
    'triangle': 0x25B2,
    'circle': 0x25CF,
    'square': 0x25A0,
    'ring': 0x25EF,
    'cross': 0x271A,
    'maltese cross': 0x2720,
    'arrow': 0x27A1,
    'check mark': 0x2714,
    'cloud': 0x2601,
    'hammer': 0x2692,
    'shamrock': 0x2618,
    'pen': 0x2712,
    'smiley': 0x263B,
    'radiation sign': 0x2622,
}
TEXTURES = ('grass', 'sand', 'water', 'brick', 'sky', 'wood')
CLASSES = (*OBJECTS, *TEXTURES)
# No seen class has the shape or the pattern of an unseen one.
UNSEEN = ('umbrella', 'anchor', 'knight', 'telephone', 'snowflake', 'flag', 'shamrock', 'brick')
SEEN = tuple(name for name in CLASSES if name not in UNSEEN)
# Other names of the same classes, for tests across datasets.
SYNONYMS = {
    'umbrella': 'parasol',
    'airplane': 'plane',
    'knight': 'horse',
    'rook': 'tower',
    'queen': 'crown',
    'flower': 'blossom',
    'telephone': 'phone',
    'skull': 'skeleton',
    'music note': 'melody',
    'gear': 'cogwheel',
    'circle': 'disc',
    'square': 'box',
    'ring': 'hoop',
    'check mark': 'tick',
    'hammer': 'tools',
    'shamrock': 'clover',
    'smiley': 'face',
    'grass': 'lawn',
    'sand': 'beach',
    'water': 'sea',
    'brick': 'wall',
    'wood': 'timber',
}
# A class name of which no scene has an object.
ABSENT_CLASS = 'zebra'
