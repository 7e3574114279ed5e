"""Compare mmzeg with tensors that the released ZegFormer, or its per-pixel baseline, produced, value by value.

    python tools/analysis_tools/check_parity.py CASE_DIR

The case's weights go through the converter and its sizes into a config; every value the case holds gets one row.
Exit code 1 if a row is off or the case holds a value that nothing here compares.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import open_clip
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules, stack_batch
from prettytable import PrettyTable

from mmzeg.clip.loading import openai_config
from mmzeg.models.image_sizes import valid_size
from mmzeg.models.scorers.crops import crop_segments, mask_probabilities
from mmzeg.registry import MODELS
from mmzeg.utils.preflight import one_line_errors
from mmzeg.utils.released_names import convert_released, our_name, released_tau
from mmzeg.utils.weight_files import read_state

MODES = {
    'full': dict(mode='full'),
    'full_gamma0': dict(mode='full', gamma=0.0),
    'seg': dict(mode='seg'),
    'img': dict(mode='img'),
    'all_cls': dict(mode='unseen'),
    'full_crop': dict(mode='full', style='crop'),
    'full_mask': dict(mode='full', style='mask'),
}
LOSSES = dict(loss_ce='loss_cls', loss_mask='loss_mask', loss_dice='loss_dice')


def register_clip(weights: Path) -> str:
    """Tell open_clip the architecture of a case's CLIP and return its name.

    The sizes are the weights'; they do not say the number of heads, which is 1 in every case: OpenAI's rule, a head for
    every 64 channels, is not the cases'.
    """
    config = openai_config(read_state(weights), weights)
    config['vision_cfg']['head_width'] = config['vision_cfg']['width']
    config['text_cfg']['heads'] = 1
    name = 'golden-case'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'{name}.json')
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
    return name


def shared_config(case: dict, folder: Path, tau: float) -> tuple[dict, dict, dict]:
    """Preprocessor and backbone, classifier, and CLIP of a case, every size from its ``case.json``."""
    weights = folder / 'clip_openai_format.safetensors'
    clip = dict(type='mmzeg.CLIP', model=register_clip(weights), pretrained=str(weights))
    body = dict(
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
        ),
        backbone=dict(
            type='ResNet',
            depth=case['depth'],
            base_channels=case['base'],
            stem_channels=case['base'],
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
        ),
        test_cfg=dict(mode='whole'),
    )
    classifier = dict(
        type='mmzeg.CLIPTextClassifier',
        text_encoder=clip,
        vocabulary=dict(classes=case['order'], unseen=case['unseen_names']),
        train_vocabulary=case['seen_names'],
        train_prompts=case['prompt'],
        test_prompts=case['prompt'],
        tau=tau,
    )
    return body, classifier, clip


def zegformer_config(case: dict, folder: Path, tau: float) -> dict:
    """The ZegFormer of a case."""
    body, classifier, clip = shared_config(case, folder, tau)
    attention = dict(embed_dims=case['hidden'], num_heads=case['heads'], dropout=0.0)
    return body | dict(
        type='mmzeg.ZegFormer',
        decode_head=dict(
            type='mmzeg.ZegFormerHead',
            feat_channels=case['hidden'],
            out_channels=case['hidden'],
            num_queries=case['queries'],
            pixel_decoder=dict(type='mmdet.PixelDecoder'),
            transformer_decoder=dict(
                num_layers=case['dec'],
                layer_cfg=dict(
                    self_attn_cfg=dict(attention),
                    cross_attn_cfg=dict(attention),
                    ffn_cfg=dict(embed_dims=case['hidden'], feedforward_channels=case['ffn']),
                ),
            ),
            positional_encoding=dict(num_feats=case['hidden'] // 2, normalize=True),
            classifier=classifier,
            assigner=dict(
                type='mmzeg.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=1.0),
                    dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
                    dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
                ],
            ),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', loss_weight=1.0),
            loss_mask=dict(type='mmdet.FocalLoss', gamma=2.0, alpha=0.25, loss_weight=20.0),
            loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=1.0),
        ),
        scorer=dict(type='mmzeg.CLIPCropScorer', clip=clip),
        fusion=dict(mode='full', gamma=0.1),
    )


def per_pixel_config(case: dict, folder: Path, tau: float) -> dict:
    """The per-pixel baseline of a case."""
    body, classifier, _ = shared_config(case, folder, tau)
    return body | dict(
        type='mmzeg.PerPixelSegmentor',
        decode_head=dict(
            type='mmzeg.PerPixelHead',
            feat_channels=case['hidden'],
            out_channels=case['hidden'],
            pixel_decoder=dict(type='mmdet.PixelDecoder'),
            classifier=classifier,
            loss_cls=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ),
    )


class Comparison:
    """Rows of one case, each with its tolerance."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.golden, self.left = tensors, set(tensors)
        self.table = PrettyTable(['value', 'difference', 'allowed', 'ok'], align='l')
        self.failed = 0

    def row(self, name: str, difference: float, allowed: float) -> None:
        """Add a row; NaN fails."""
        ok = difference <= allowed
        self.failed += not ok
        self.table.add_row([name, f'{difference:.2e}', f'{allowed:.0e}', 'yes' if ok else 'NO'])

    def loss(self, name: str, ours: float, golden: float) -> None:
        """Within 1e-4, relative."""
        self.row(name, abs(ours - golden) / max(abs(golden), 1e-12), 1e-4)

    def tensor(self, name: str, ours: torch.Tensor) -> None:
        """Within 1e-3 of the golden tensor's largest magnitude; label maps on all but 0.1 % of the pixels."""
        golden = self.golden[name]
        self.left.discard(name)
        if golden.shape != ours.shape:
            self.row(f'{name} {tuple(ours.shape)} for {tuple(golden.shape)}', float('nan'), 0)
        elif name.startswith('argmax'):
            self.row(name, (ours != golden).float().mean().item(), 1e-3)
        elif golden.numel() == 0:
            self.row(name, 0.0, 1e-3)
        else:
            largest = golden.abs().max().clamp(min=1e-30)
            self.row(name, ((ours - golden).abs().max() / largest).item(), 1e-3)


def read_samples(case: dict, golden: dict) -> tuple[list[torch.Tensor], list[SegDataSample]]:
    """Images (3, h, w) RGB and samples whose labels are indices of the training vocabulary, the rest ignored."""
    images, samples = [], []
    for index, out_size in enumerate(case.get('out_sizes') or [case['out_size']]):
        image, label = golden[f'image_{index}'], golden[f'label_{index}'].long()
        mapped = torch.full_like(label, 255)
        for position, name in enumerate(case['seen_names']):
            mapped[label == case['names'].index(name)] = position
        sample = SegDataSample(
            metainfo=dict(ori_shape=tuple(out_size), img_shape=tuple(image.shape[1:]), img_path=f'image_{index}')
        )
        sample.gt_sem_seg = PixelData(data=mapped[None])
        images.append(image)
        samples.append(sample)
    return images, samples


def check_training(model, inputs, samples, case: dict, check: Comparison) -> None:
    """Losses, matches and gradient norms of one training pass over the batch."""
    head = model.decode_head
    model.train()
    text = head.classifier.text_embeddings(training=True)
    check.tensor('text_embed_seen', text)
    class_logits, mask_logits = head(model.extract_feat(inputs), text)
    check.tensor('train_pred_logits', class_logits[-1].detach())
    check.tensor('train_pred_masks', mask_logits[-1].detach())
    matches = head.match(class_logits, mask_logits, [head._targets(sample) for sample in samples])[-1]
    for index, (ours, golden) in enumerate(zip(matches, case['matches'], strict=True)):
        same = [part.tolist() for part in ours] == golden
        check.row(f'matches_{index}', 0.0 if same else 1.0, 0.0)
    losses = model.loss(inputs, samples)
    for name, golden in case['losses'].items():
        kind, _, layer = name.rpartition('_') if name[-1].isdigit() else (name, '', '')
        ours = losses[f'decode.{f"d{layer}." if layer else ""}{LOSSES[kind]}'].item()
        check.loss(name, ours, golden)
    check.row('number of losses', abs(len(losses) - len(case['losses'])), 0.0)
    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    floor = 1e-6 * max(case['grad_norms'].values())
    for name, golden in case['grad_norms'].items():
        gradient = getattr(parameters.get(our_name(name)), 'grad', None)
        ours = float('nan') if gradient is None else gradient.norm().item()
        # 1e-3 relative with the floor added: |ours - golden| <= 1e-3 golden + floor.
        check.row(f'grad {name}', abs(ours - golden) / (golden + 1e3 * floor), 1e-3)


@torch.no_grad()
def check_test(model, inputs, samples, case: dict, check: Comparison) -> None:
    """Embeddings, logits, crops and the semantic maps of every mode."""
    model.eval()
    metas = [sample.metainfo for sample in samples]
    check.tensor('text_embed_all', model.decode_head.classifier.text_embeddings(training=False))
    check.tensor('text_embed_all_clip', model.scorer.clip.text_embeddings(case['order'], model.scorer.prompts))
    features = model.extract_feat(inputs)
    check.tensor('res5', features[-1])
    class_logits, mask_logits = model.decode_head(features)
    check.tensor('pred_logits', class_logits[-1])
    check.tensor('aux_pred_logits', class_logits[:-1])
    check.tensor('pred_masks', mask_logits[-1])
    for index, (image, masks) in enumerate(zip(model.denormalize(inputs), mask_logits[-1], strict=True)):
        size = valid_size(metas[index], image)
        probabilities = mask_probabilities(masks, image.shape[-2:])
        crops = crop_segments(
            model.scorer.normalize(image, size), probabilities, model.scorer.clip.image_size, 'cropmask'
        )
        check.tensor(f'crops_{index}', crops[..., ::16, ::16])
        check.tensor(f'clip_image_embed_{index}', model.scorer.encode(image, masks, size)[0])
    for mode, settings in MODES.items():
        model.fusion.mode, model.fusion.gamma = settings['mode'], settings.get('gamma', case.get('gamma', 0.1))
        model.scorer.styles = [settings.get('style', 'cropmask')]
        for index, sample in enumerate(model.predict(inputs, samples)):
            check.tensor(f'sem_seg_{mode}_{index}', sample.seg_logits.data[:, ::8, ::8])
            check.tensor(f'argmax_{mode}_{index}', sample.pred_sem_seg.data[0])


def check_per_pixel(model, inputs, samples, case: dict, check: Comparison) -> None:
    """Loss, logits and semantic maps of the per-pixel baseline."""
    model.train()
    check.loss('loss_sem_seg', model.loss(inputs, samples)['decode.loss_cls'].item(), case['losses']['loss_sem_seg'])
    model.eval()
    check.tensor('text_embed_all', model.decode_head.classifier.text_embeddings(training=False))
    with torch.no_grad():
        check.tensor('logits_stride4', model.decode_head(model.extract_feat(inputs)))
        for mode, gamma in (('gamma0', 0.0), ('gamma', case['gamma'])):
            model.gamma = gamma
            for index, sample in enumerate(model.predict(inputs, samples)):
                check.tensor(f'sem_seg_{mode}_{index}', sample.seg_logits.data[:, ::8, ::8])
                check.tensor(f'argmax_{mode}_{index}', sample.pred_sem_seg.data[0])


def check_case(folder: Path) -> Comparison:
    """Compare everything in a case folder.

    Raises:
        FileNotFoundError: A file of the case is not there; names it.
        ValueError: One is cut off; names it.
    """
    weights_file = folder / 'zegformer_official.safetensors'
    per_pixel = (folder / 'per_pixel_official.safetensors').is_file()
    if per_pixel:
        weights_file = folder / 'per_pixel_official.safetensors'
    for path in (
        folder / 'case.json',
        folder / 'tensors.safetensors',
        weights_file,
        folder / 'clip_openai_format.safetensors',
    ):
        if not path.is_file():
            raise FileNotFoundError(
                f'{path}: not there; a case is a folder of case.json, tensors.safetensors, '
                'clip_openai_format.safetensors, and zegformer_official.safetensors or per_pixel_official.safetensors'
            )
    case = json.loads((folder / 'case.json').read_text())
    golden = read_state(folder / 'tensors.safetensors')
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    released = read_state(weights_file)
    config = (per_pixel_config if per_pixel else zegformer_config)(case, folder, released_tau(released))
    model = MODELS.build(ConfigDict(config))
    model.load_state_dict(convert_released(released), strict=True)
    images, samples = read_samples(case, golden)
    preprocessor = model.data_preprocessor
    normalized = [(image.float() - preprocessor.mean) / preprocessor.std for image in images]
    inputs, samples = stack_batch(normalized, samples, size_divisor=32)
    check = Comparison({name: tensor for name, tensor in golden.items() if not name.startswith(('image_', 'label_'))})
    if per_pixel:
        check_per_pixel(model, inputs, samples, case, check)
    else:
        check_training(model, inputs, samples, case, check)
        check_test(model, inputs, samples, case, check)
    for name in sorted(check.left):
        check.row(f'{name} (not compared)', float('nan'), 0.0)
    return check


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('case', type=Path, help='folder with case.json and its tensors')
    check = check_case(parser.parse_args().case)
    print(check.table)
    print(f'{len(check.table.rows)} values, {check.failed} off')
    sys.exit(int(check.failed > 0))


if __name__ == '__main__':
    main()
