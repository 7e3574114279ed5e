"""Masks of other models and of files: what is read, what is refused, and that a mask model's own masks come out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules
from PIL import Image
from pycocotools import mask as coco_mask

from mmzeg.models import FileProposals, ModelProposals
from mmzeg.models.proposals import ProposalBatch, ProposalError
from mmzeg.models.proposals.rle import decode_rle

SIZE = (24, 32)
RNG = np.random.default_rng(0)
MASKS = RNG.random((3, *SIZE)) > 0.6


def rle(mask, compressed=True):
    """Return the COCO RLE of a mask (H, W)."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    if compressed:
        return dict(encoded, counts=encoded['counts'].decode())
    pixels = np.concatenate([[0], mask.T.ravel()]).astype(int)
    changes = np.flatnonzero(np.diff(pixels))
    return dict(size=list(mask.shape), counts=np.diff([0, *changes, mask.size]).tolist())


def metas(image='photos/cat.jpg', size=SIZE, **fields):
    return [dict(img_path=image, ori_shape=size, **fields)]


def read(folder, inputs=None, **fields):
    """Return mask probabilities (Q, h, w) and objectness (Q,) of one image."""
    inputs = torch.zeros(1, 3, *SIZE) if inputs is None else inputs
    proposals = FileProposals(str(folder))(inputs, metas(**fields))
    return proposals.mask_logits[0].sigmoid(), proposals.objectness_logits[0].sigmoid()


@pytest.mark.parametrize('compressed', [True, False])
@pytest.mark.parametrize('mask', [*MASKS, np.zeros(SIZE, bool), np.ones(SIZE, bool)])
def test_run_lengths(mask, compressed):
    assert np.array_equal(decode_rle(rle(mask, compressed)), mask)


@pytest.mark.parametrize(
    'counts, message',
    [
        (rle(MASKS[0])['counts'][:-4], 'fill .* pixels of 768'),
        (rle(MASKS[0])['counts'] + '0', 'fill|corrupted'),
        ('', 'fill 0 pixels of 768'),
        ('ü', 'corrupted'),
        ([800, -32], 'corrupted'),
        ([700], 'fill 700 pixels'),
        (None, 'corrupted'),
        (['a'], 'corrupted'),
    ],
)
def test_corrupted_run_lengths_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(dict(size=list(SIZE), counts=counts))


@pytest.mark.parametrize('content', [5, None, {}, dict(size=[24], counts='0'), dict(size=[24, '32'], counts='0')])
def test_no_run_lengths(content):
    with pytest.raises(ValueError, match='not a COCO RLE'):
        decode_rle(content)


@pytest.mark.parametrize('form', ['list', 'annotations', 'segments'])
def test_json(form, tmp_path):
    entries = [
        dict(segmentation=rle(mask), predicted_iou=score) for mask, score in zip(MASKS, (0.5, 0.9, 1.04), strict=True)
    ]
    entries[1].pop('predicted_iou')
    (tmp_path / 'cat.json').write_text(json.dumps(entries if form == 'list' else {form: entries}))
    masks, objectness = read(tmp_path)
    np.testing.assert_array_equal(masks[:3] > 0.5, MASKS)
    assert masks.min() < 1e-8 and masks.max() == 1
    assert objectness.tolist() == pytest.approx([0.5, 1, 1, 1], abs=1e-5)
    # The last mask is what no other covers.
    np.testing.assert_array_equal(masks[3] > 0.5, ~MASKS.any(0))


def test_png(tmp_path):
    labels = RNG.integers(0, 4, SIZE).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / 'cat.png')
    masks, _ = read(tmp_path)
    np.testing.assert_array_equal(masks > 0.5, [labels == value for value in (1, 2, 3, 0)])


def test_folder_of_pngs(tmp_path):
    (tmp_path / 'cat').mkdir()
    for index, mask in enumerate(MASKS):
        Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / f'cat/{index}.png')
    (tmp_path / 'cat/metadata.csv').write_text('id,area,predicted_iou\n0,9,0.8\n2,9,0.6\n')
    masks, objectness = read(tmp_path)
    np.testing.assert_array_equal(masks[:3] > 0.5, MASKS)
    assert objectness.tolist() == pytest.approx([0.8, 1, 0.6, 1], abs=1e-5)


def test_no_masks_are_one_segment(tmp_path):
    (tmp_path / 'cat.json').write_text('[]')
    masks, objectness = read(tmp_path)
    assert masks.shape == (1, *SIZE) and masks.min() > 0.99 and objectness.min() > 0.99


def test_subfolders(tmp_path):
    for city, mask in zip('ab', MASKS, strict=False):
        (tmp_path / 'masks' / city).mkdir(parents=True)
        (tmp_path / f'masks/{city}/0.json').write_text(json.dumps([dict(segmentation=rle(mask))]))
    proposals = FileProposals(str(tmp_path / 'masks'), image_root=str(tmp_path / 'images'))
    for city, mask in zip('ab', MASKS, strict=False):
        logits = proposals(torch.zeros(1, 3, *SIZE), metas(str(tmp_path / f'images/{city}/0.png'))).mask_logits
        np.testing.assert_array_equal(logits[0, 0] > 0, mask)


def test_resized_padded_and_flipped_inputs(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[4:12, 8:20] = True
    (tmp_path / 'cat.json').write_text(json.dumps([dict(segmentation=rle(mask))]))
    padding = (0, 4, 0, 8)
    masks, _ = read(tmp_path, torch.zeros(1, 3, 56, 68), padding_size=padding)
    expected = np.zeros((56, 68), bool)
    expected[8:24, 16:40] = True
    np.testing.assert_array_equal(masks[0] > 0.5, expected)
    # No mask covers the padding.
    assert not (masks[:, 48:] > 0.5).any() and not (masks[:, :, 64:] > 0.5).any()
    masks, _ = read(tmp_path, flip=True, flip_direction='horizontal')
    np.testing.assert_array_equal(masks[0] > 0.5, mask[:, ::-1])


def test_images_of_a_batch_differ_in_number(tmp_path):
    (tmp_path / 'cat.json').write_text(json.dumps([dict(segmentation=rle(mask)) for mask in MASKS]))
    (tmp_path / 'dog.json').write_text('[]')
    batch = FileProposals(str(tmp_path))(torch.zeros(2, 3, *SIZE), metas() + metas('dog.png'))
    assert batch.mask_logits.shape == (2, 4, *SIZE)
    assert batch.mask_logits[1, 1:].sigmoid().max() < 1e-8 and batch.objectness_logits[1, 1:].sigmoid().max() < 1e-8


def write_text(text):
    return lambda folder: (folder / 'cat.json').write_text(text)


def write_mask(mask):
    return write_text(json.dumps([dict(segmentation=rle(MASKS[0])), dict(segmentation=rle(mask))]))


def save_png(array):
    return lambda folder: Image.fromarray(array).save(folder / 'cat.png')


@pytest.mark.parametrize(
    'write, message',
    [
        (lambda folder: None, r'cat: no masks of this image: write cat.json, cat.png, or a folder'),
        (write_text('[{"segm'), r'cat.json: corrupted JSON \(.*\): write it again'),
        (lambda folder: (folder / 'cat.json').write_bytes(b'\xff\xfe\x00'), 'cat.json: corrupted JSON'),
        (write_text('{"masks": []}'), 'cat.json: not a list of masks'),
        (write_text('[{"area": 3}]'), 'cat.json: mask 0: not a COCO RLE'),
        (write_text('[7]'), 'cat.json: mask 0: not a COCO RLE'),
        (write_mask(MASKS[0].T), r'cat.json: mask 1 is 24 x 32 pixels but its image photos/cat.jpg is 32 x 24'),
        (
            write_text(json.dumps([dict(segmentation=rle(MASKS[0]), predicted_iou='high')])),
            "mask 0: predicted_iou is 'high', not a number",
        ),
        (save_png(np.zeros((9, 9), np.uint8)), r'cat.png is 9 x 9 pixels but its image photos/cat.jpg is 32 x 24'),
        (save_png(np.zeros((*SIZE, 3), np.uint8)), 'cat.png: a label map has one value per pixel'),
        (lambda folder: (folder / 'cat.png').write_bytes(b'\x89PNG'), 'cat.png: truncated or not an image'),
    ],
)
def test_bad_files(write, message, tmp_path):
    write(tmp_path)
    with pytest.raises(ProposalError, match=message) as error:
        read(tmp_path)
    assert error.value.index == 0 and '\n' not in str(error.value)


def test_an_image_without_a_file(tmp_path):
    with pytest.raises(ProposalError, match='has no file name by which to find its masks'):
        read(tmp_path, image=None)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such folder of masks; set model.proposals.folder'):
        read(tmp_path / 'masks')


# Models of mmseg and mmdet, with their own configs made small.


@pytest.fixture
def small_config(tmp_path):
    """Return a function that writes a config based on one of a package's, and returns its path."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')

    def write(base, **model):
        path = tmp_path / 'small.py'
        package, _, file = base.partition('::')
        base_path = Path(__import__(package).__file__).parent / '.mim/configs' / file
        path.write_text(f'_base_ = {str(base_path)!r}\nmodel = {model!r}\n')
        return str(path)

    return write


MASKFORMER = 'mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
SMALL_RESNET = dict(depth=18, base_channels=8, stem_channels=8)
NARROW = dict(embed_dims=32, num_heads=2)
SMALL_DECODER = dict(
    num_layers=2,
    layer_cfg=dict(self_attn_cfg=NARROW, cross_attn_cfg=NARROW, ffn_cfg=dict(embed_dims=32, feedforward_channels=32)),
)
SMALL_HEAD = dict(
    in_channels=[8, 16, 32, 64],
    feat_channels=32,
    out_channels=32,
    num_queries=6,
    pixel_decoder=dict(norm_cfg=dict(num_groups=8)),
    positional_encoding=dict(num_feats=16),
    transformer_decoder=SMALL_DECODER,
)


def test_the_masks_of_mmsegs_maskformer(small_config):
    config = small_config(MASKFORMER, backbone=SMALL_RESNET, decode_head=SMALL_HEAD)
    torch.manual_seed(0)
    proposals = ModelProposals(config).eval()
    inputs = torch.randn(2, 3, 64, 96)
    masks, objectness = proposals(inputs, metas(size=(64, 96)) * 2)
    assert masks.shape == (2, 6, 16, 24)
    # mmseg's own semantic map, from these masks and the classes that are not used here.
    model = proposals.model
    image_metas = [dict(img_shape=(64, 96), batch_input_shape=(64, 96), ori_shape=(64, 96))] * 2
    with torch.no_grad():
        semantic_map = model.encode_decode(inputs, image_metas)
        classes = model.decode_head(model.extract_feat(inputs), [_Sample(meta) for meta in image_metas])[0][-1]
    probs = classes.softmax(-1)
    upsampled = torch.nn.functional.interpolate(masks, size=(64, 96), mode='bilinear', align_corners=False)
    expected = torch.einsum('bqc,bqhw->bchw', probs[..., :-1], upsampled.sigmoid())
    torch.testing.assert_close(semantic_map, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(objectness.sigmoid(), 1 - probs[..., -1], rtol=1e-4, atol=1e-5)
    assert proposals.preprocessor == dict(
        type='mmzeg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        rgb_to_bgr=False,
        test_cfg=None,
    )


class _Sample:
    def __init__(self, metainfo):
        self.metainfo = metainfo


def test_the_masks_of_mmdets_mask2former(small_config):
    deformable = dict(NARROW, num_levels=3)
    pixel_decoder = dict(
        norm_cfg=dict(num_groups=8),
        encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=dict(embed_dims=32))),
        positional_encoding=dict(num_feats=16),
    )
    config = small_config(
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
        backbone=SMALL_RESNET,
        panoptic_head=dict(SMALL_HEAD, pixel_decoder=pixel_decoder),
    )
    torch.manual_seed(0)
    proposals = ModelProposals(config).eval()
    masks, objectness = proposals(torch.randn(1, 3, 64, 96), metas(size=(60, 90), padding_size=(0, 6, 0, 4)))
    assert masks.shape == (1, 6, 16, 24) and objectness.shape == (1, 6)
    assert type(proposals.model).__name__ == 'Mask2Former'


def test_the_instances_of_mmdets_mask_rcnn(small_config):
    config = small_config(
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        backbone=SMALL_RESNET,
        neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
        rpn_head=dict(in_channels=16, feat_channels=16),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=16),
            bbox_head=dict(in_channels=16, fc_out_channels=16),
            mask_roi_extractor=dict(out_channels=16),
            mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1),
        ),
        # Random weights give no class a high score.
        test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=4)),
    )
    torch.manual_seed(0)
    proposals = ModelProposals(config).eval()
    inputs = torch.randn(2, 3, 64, 96)
    masks, objectness = proposals(inputs, metas(size=(30, 45), padding_size=(0, 6, 0, 4)) * 2)
    assert masks.shape[0] == 2 and masks.shape[2:] == (64, 96) and 4 <= masks.shape[1] <= 5
    covered = masks.sigmoid() > 0.5
    assert covered[:, :, :60, :90].any(1).all() and not covered[:, :, 60:].any() and not covered[:, :, :, 90:].any()
    assert ((objectness.sigmoid() > 0) & (objectness.sigmoid() <= 1)).all()
    assert proposals.preprocessor['test_cfg'] == dict(size_divisor=32)


def test_a_detector_without_masks(small_config):
    config = small_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    proposals = ModelProposals(config).eval()
    with pytest.raises(ValueError, match='RetinaNet predicts boxes without masks'):
        proposals(torch.zeros(1, 3, 64, 64), metas(size=(64, 64)))


def test_a_per_pixel_model_is_refused(small_config):
    with pytest.raises(ValueError, match='EncoderDecoder predicts no class-agnostic masks: give a MaskFormer'):
        ModelProposals('mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py')


@pytest.mark.parametrize('config', ['mmseg::no_such.py', 'no_such_package::a.py', 'no_such.py'])
def test_a_missing_config(config):
    with pytest.raises(FileNotFoundError, match='no_such'):
        ModelProposals(config)


def test_a_config_without_a_preprocessor(small_config):
    path = Path(small_config(MASKFORMER, data_preprocessor=None))
    path.write_text(path.read_text() + 'data_preprocessor = None\n')
    with pytest.raises(ValueError, match='the model has no data_preprocessor: set it'):
        ModelProposals(str(path))


def test_padding_a_batch_keeps_the_masks():
    images = [(torch.randn(2, 4, 5), torch.randn(2)), (torch.randn(3, 4, 5), torch.randn(3))]
    batch = ProposalBatch.of_images(images)
    for index, (masks, objectness) in enumerate(images):
        assert torch.equal(batch.mask_logits[index, : len(masks)], masks)
        assert torch.equal(batch.objectness_logits[index, : len(masks)], objectness)
