"""Seeded bad input to the inferencer of a config, or to its page: what is refused in one line, what gets past that.

python tools/analysis_tools/fuzz.py CONFIG --number 1000 --minutes 5
python tools/analysis_tools/fuzz.py CONFIG --number 1000 --minutes 5 --page

Exit code 1 where anything but a prediction or one clear line came back; --seed SEED --number 1 makes it again.
"""

import argparse
import io
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

from mmzeg.apis import ZeroShotInferencer
from mmzeg.utils.preflight import one_line_errors

sys.path.insert(0, str(Path(__file__).parent))
from measuring import resident  # noqa: E402

FORMATS = ('PNG', 'JPEG', 'GIF', 'WEBP', 'TIFF', 'BMP')
MODES = ('RGB', 'L', 'RGBA', 'LA', 'P', '1', 'CMYK', 'I', 'F', 'YCbCr')
LETTERS = 'abcdefghij ,.-/\'"{}%\\<>&\n\t\0éßλж猫🐱\u200d\ud800'
GOOD, BAD = (None, 0, 0.1, 0.5, 1, True), (-1, 1e300, float('nan'), float('inf'), '0.5')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs; weights are random')
    parser.add_argument(
        '--page', action='store_true', help="what the page's visitors send, not what the inferencer gets"
    )
    parser.add_argument('--number', type=int, default=1000, help='inputs')
    parser.add_argument('--minutes', type=float, default=60, help='no further input after these')
    parser.add_argument('--seed', type=int, default=0, help='of the first input; the next has the next')
    parser.add_argument('--device', help='default: a GPU if there is one')
    return parser.parse_args()


def picture(rng: random.Random, folder: Path) -> object:
    """An array, a PIL image, or a file that may be damaged."""
    sides = [0 if rng.random() < 0.01 else rng.choice((1, 2, 17, 32, rng.randint(1, 96))) for _ in range(2)]
    noise = np.random.default_rng(rng.getrandbits(32))
    kind = rng.random()
    if kind < 0.15:
        shape = [*sides, rng.choice((3, 3, 3, 1, 4))][: rng.choice((3, 3, 2))]
        return noise.integers(0, 255, shape).astype(rng.choice((np.uint8, np.uint8, np.uint8, np.float32, bool)))
    if kind < 0.18:
        return rng.choice((None, 1.5, b'picture', 'no\0file', 'n' * 5000, {}, folder / 'gone.png', ''))
    image = noisy(rng, sides, noise)
    return image if kind < 0.25 else damaged(rng, image, folder)


def noisy(rng: random.Random, sides: list[int], noise: np.random.Generator) -> Image.Image:
    """An image of any mode."""
    image = Image.fromarray(noise.integers(0, 255, (*sides, 3), np.uint8)) if all(sides) else Image.new('RGB', sides)
    return image.convert(rng.choice(MODES))


def damaged(rng: random.Random, image: Image.Image, folder: Path) -> Path:
    """A file of the image, as any of the formats, its bytes changed, cut, doubled or left as they are."""
    stream, kind, exif = io.BytesIO(), rng.choice(FORMATS), Image.Exif()
    exif[0x0112] = rng.choice((1, 3, 6, 8, 99))
    try:
        image.save(stream, kind, exif=exif)
    except Exception:  # a mode or size that the format has not
        Image.new('RGB', (9, 5)).save(stream := io.BytesIO(), kind, exif=exif)
    content = bytearray(stream.getvalue())
    for _ in range(rng.choice((0, 0, 1, 1, 3, 30))):
        content[rng.randrange(rng.choice((len(content), min(64, len(content)))))] = rng.randrange(256)
    if rng.random() < 0.2:
        content = content[: rng.randrange(len(content))] * rng.choice((1, 2))
    path = folder / f'picture.{rng.choice(("png", "jpg", "gif", "webp", "txt"))}'
    path.write_bytes(content)
    return path


def word(rng: random.Random) -> object:
    letters = LETTERS if rng.random() < 0.1 else LETTERS.partition('\n')[0] + 'éßлж猫🐱'
    name = ''.join(rng.choices(letters, k=rng.choice((1, 3, 8, 8, 300))))
    return name if rng.random() < 0.98 else rng.choice((None, 3, '', '   ', b'cat', ['cat']))


def question(rng: random.Random) -> dict:
    """Classes, fusion settings and batch size, most of them good."""
    asked = dict(batch_size=rng.choice((1, 1, 2)), return_scores=rng.random() < 0.2, return_vis=rng.random() < 0.2)
    if rng.random() < 0.5:
        asked['classes'] = rng.choice(('cat', 3, [])) if rng.random() < 0.05 else [word(rng) for _ in range(3)]
    if rng.random() < 0.1:
        asked['seen'] = rng.choice(([], ['sky'], 'sky', 3, asked.get('classes')))
    for name in ('lam', 'gamma'):
        if rng.random() < 0.3:
            asked[name] = rng.choice(GOOD if rng.random() < 0.9 else BAD)
    if rng.random() < 0.5:
        asked['mode'] = rng.choice(('seg', 'img', 'full', 'unseen') * 5 + ('both',))
    return asked


def attempt(inferencer: ZeroShotInferencer, seed: int, folder: Path) -> tuple[str, str | None]:
    """What came back of the input of a seed, and, if that was a failure, the end of its trace."""
    rng = random.Random(seed)
    given, asked = picture(rng, folder), question(rng)
    try:
        found = inferencer(given, **asked)
        if found['errors']:
            message = found['errors'][0]['error']
            return 'refused picture', None if message and '\n' not in message else repr(message)
        (prediction,) = found['predictions']
        labels, scores = prediction['label_map'], prediction.get('scores', np.zeros(1))
        if labels.min() < 0 or labels.max() >= len(prediction['classes']) or not np.isfinite(scores).all():
            return 'wrong', f'labels up to {labels.max()} of {len(prediction["classes"])} classes, or scores not finite'
        return 'predictions', None
    except (ValueError, OSError) as error:
        # Not those of Python's own text handling, which name no input.
        clear = not isinstance(error, UnicodeError) and str(error) and '\n' not in str(error)
        return f'refused ({type(error).__name__})', None if clear else repr(error)
    except Exception:
        return 'failure', traceback.format_exc(limit=-2)


def attempt_page(actions: object, seed: int, folder: Path) -> tuple[str, str | None]:
    """The same of a visit to the page, by its ``Actions``: picture, names twice, a slider's move, a click, files."""
    rng = random.Random(seed)
    noise = np.random.default_rng(rng.getrandbits(32))
    path = damaged(rng, noisy(rng, [rng.randint(1, 96), rng.randint(1, 96)], noise), folder)
    upload = dict(path=str(path)) if rng.random() < 0.95 else rng.choice((None, {}, dict(path='/etc/passwd')))
    texts = [
        rng.choice(('\n', ';')).join(str(word(rng)) for _ in range(rng.choice((0, 1, 2, 3, 3, 8)))) for _ in range(2)
    ]
    gamma, lam, x, y = rng.random(), rng.random(), rng.randint(-2, 99), rng.randint(-2, 99)
    mode, said = rng.choice(actions.modes), []
    try:
        visit, *rest = actions.open(upload, texts[0], gamma, lam)
        said.append(rest[0])
        if visit is not None:
            visit, *rest = actions.name(visit, texts[1], gamma, lam)
            said.append(rest[0])
        actions.understood(texts[1])
        actions.move(visit, lam, gamma)
        said.append(actions.explain(visit, mode, x, y, gamma, lam)[-1])
        said.append(actions.files(visit, mode, gamma, lam)[1])
    except Exception:  # of any kind: it is what is looked for
        return 'failure', traceback.format_exc(limit=-2)
    # What is said is HTML, a class name in it text.
    shown = [text for text in said if re.search(r'<(script|img|svg|iframe)', text)]
    named = visit is not None and visit.preview is not None
    return 'named' if named else 'refused', repr(shown[0]) if shown else None


@one_line_errors
def main() -> None:
    args = parse_args()
    inferencer = ZeroShotInferencer(args.config, device=args.device)
    MMLogger.get_current_instance().setLevel('ERROR')  # warnings of odd names
    inferencer(np.zeros((32, 32, 3), np.uint8))
    counts, failures, slowest, used, begun = Counter(), 0, (0.0, 0), [resident(trimmed=True)], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target, attack = inferencer, attempt
        if args.page:
            os.environ['GRADIO_TEMP_DIR'] = folder
            from mmzeg.apis.demo_page import Actions

            target, attack = Actions(inferencer), attempt_page
        for seed in range(args.seed, args.seed + args.number):
            start = time.monotonic()
            if start - begun > 60 * args.minutes:
                break
            kind, why = attack(target, seed, Path(folder))
            counts[kind] += 1
            slowest = max(slowest, (time.monotonic() - start, seed))
            used.append(resident(trimmed=True))
            if why:
                failures += 1
                print(f'seed {seed}: {kind}: {why}', flush=True)
    kinds = ', '.join(f'{count} {kind}' for kind, count in counts.most_common())
    print(f'{sum(counts.values())} inputs in {time.monotonic() - begun:.0f} s: {kinds}')
    print('resident MB: ' + ', '.join(f'{used[len(used) * part // 8 - (part == 8)] / 2**20:.0f}' for part in range(9)))
    print(f'slowest: {slowest[0]:.1f} s, seed {slowest[1]}\n{failures} failures')
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
