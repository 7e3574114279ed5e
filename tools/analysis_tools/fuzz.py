"""Give seeded bad inputs to the inferencer of a config, or to its demo page, and report those that break it.

python tools/analysis_tools/fuzz.py CONFIG --number 1000 --minutes 5
python tools/analysis_tools/fuzz.py CONFIG --number 1000 --minutes 5 --page

The exit code is 1 if any input got neither a prediction nor an error of one line; --seed SEED --number 1 repeats it.
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
from mmzeg.benchmarking.time_and_memory import resident_bytes
from mmzeg.utils.preflight import one_line_errors

FORMATS = ('PNG', 'JPEG', 'GIF', 'WEBP', 'TIFF', 'BMP')
IMAGE_MODES = ('RGB', 'L', 'RGBA', 'LA', 'P', '1', 'CMYK', 'I', 'F', 'YCbCr')
LETTERS = 'abcdefghij ,.-/\'"{}%\\<>&\n\t\0éßлж猫🐱\u200d\ud800'
VALID_VALUES = (None, 0, 0.1, 0.5, 1, True)
INVALID_VALUES = (-1, 1e300, float('nan'), float('inf'), '0.5')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file, or its name in configs; weights are random')
    parser.add_argument(
        '--page', action='store_true', help='give the demo page what users may send, instead of the inferencer'
    )
    parser.add_argument('--number', type=int, default=1000, help='number of inputs')
    parser.add_argument('--minutes', type=float, default=60, help='stop after this time')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first input; the next one has the next seed')
    parser.add_argument('--device', help='defaults to a GPU if there is one')
    return parser.parse_args()


def random_input(rng: random.Random, folder: Path) -> object:
    """Return an array, a PIL image, a file that may be damaged, or none of these."""
    size = [0 if rng.random() < 0.01 else rng.choice((1, 2, 17, 32, rng.randint(1, 96))) for _ in range(2)]
    noise = np.random.default_rng(rng.getrandbits(32))
    kind = rng.random()
    if kind < 0.15:
        shape = [*size, rng.choice((3, 3, 3, 1, 4))][: rng.choice((3, 3, 2))]
        return noise.integers(0, 255, shape).astype(rng.choice((np.uint8, np.uint8, np.uint8, np.float32, bool)))
    if kind < 0.18:
        return rng.choice((None, 1.5, b'image', 'no\0file', 'n' * 5000, {}, folder / 'gone.png', ''))
    image = random_image(rng, size, noise)
    return image if kind < 0.25 else damaged_file(rng, image, folder)


def random_image(rng: random.Random, size: list[int], noise: np.random.Generator) -> Image.Image:
    """Return an image of noise in a random mode."""
    image = Image.fromarray(noise.integers(0, 255, (*size, 3), np.uint8)) if all(size) else Image.new('RGB', size)
    return image.convert(rng.choice(IMAGE_MODES))


def damaged_file(rng: random.Random, image: Image.Image, folder: Path) -> Path:
    """Save an image in a random format; its bytes may be changed, truncated or doubled."""
    stream = io.BytesIO()
    file_format = rng.choice(FORMATS)
    exif = Image.Exif()
    exif[0x0112] = rng.choice((1, 3, 6, 8, 99))
    try:
        image.save(stream, file_format, exif=exif)
    except Exception:  # a mode or size that the format does not support
        stream = io.BytesIO()
        Image.new('RGB', (9, 5)).save(stream, file_format, exif=exif)
    content = bytearray(stream.getvalue())
    # Change bytes, in the header more often than elsewhere.
    for _ in range(rng.choice((0, 0, 1, 1, 3, 30))):
        content[rng.randrange(rng.choice((len(content), min(64, len(content)))))] = rng.randrange(256)
    if rng.random() < 0.2:
        content = content[: rng.randrange(len(content))] * rng.choice((1, 2))
    path = folder / f'image.{rng.choice(("png", "jpg", "gif", "webp", "txt"))}'
    path.write_bytes(content)
    return path


def random_class_name(rng: random.Random) -> object:
    """Return a class name, at times with control characters, and seldom something else."""
    letters = LETTERS if rng.random() < 0.1 else LETTERS.partition('\n')[0] + 'éßлж猫🐱'
    name = ''.join(rng.choices(letters, k=rng.choice((1, 3, 8, 8, 300))))
    return name if rng.random() < 0.98 else rng.choice((None, 3, '', '   ', b'cat', ['cat']))


def random_settings(rng: random.Random) -> dict:
    """Return class names, fusion settings and batch size, most of them valid."""
    settings = dict(batch_size=rng.choice((1, 1, 2)), return_scores=rng.random() < 0.2, return_vis=rng.random() < 0.2)
    if rng.random() < 0.5:
        names = rng.choice(('cat', 3, [])) if rng.random() < 0.05 else [random_class_name(rng) for _ in range(3)]
        settings['classes'] = names
    if rng.random() < 0.1:
        settings['seen'] = rng.choice(([], ['sky'], 'sky', 3, settings.get('classes')))
    for name in ('lam', 'gamma'):
        if rng.random() < 0.3:
            settings[name] = rng.choice(VALID_VALUES if rng.random() < 0.9 else INVALID_VALUES)
    if rng.random() < 0.5:
        settings['mode'] = rng.choice(('seg', 'img', 'full', 'unseen') * 5 + ('both',))
    return settings


def fuzz_inferencer(inferencer: ZeroShotInferencer, seed: int, folder: Path) -> tuple[str, str | None]:
    """Call the inferencer with the input of a seed; returns the kind of outcome, and the failure if it is one."""
    rng = random.Random(seed)
    image = random_input(rng, folder)
    settings = random_settings(rng)
    try:
        result = inferencer(image, **settings)
        if result['errors']:
            message = result['errors'][0]['error']
            return 'rejected image', None if message and '\n' not in message else repr(message)
        (prediction,) = result['predictions']
        labels = prediction['label_map']
        scores = prediction.get('scores', np.zeros(1))
        if labels.min() < 0 or labels.max() >= len(prediction['classes']) or not np.isfinite(scores).all():
            return 'wrong', f'labels up to {labels.max()} of {len(prediction["classes"])} classes, or scores not finite'
        return 'predictions', None
    except (ValueError, OSError) as error:
        # Errors of Python's own text handling do not name the input.
        is_clear = not isinstance(error, UnicodeError) and str(error) and '\n' not in str(error)
        return f'rejected ({type(error).__name__})', None if is_clear else repr(error)
    except Exception:
        return 'failure', traceback.format_exc(limit=-2)


def fuzz_page(handlers: object, seed: int, folder: Path) -> tuple[str, str | None]:
    """Call every handler of ``EventHandlers`` as a user may: image, class names twice, slider, click, files."""
    rng = random.Random(seed)
    noise = np.random.default_rng(rng.getrandbits(32))
    path = damaged_file(rng, random_image(rng, [rng.randint(1, 96), rng.randint(1, 96)], noise), folder)
    upload = dict(path=str(path)) if rng.random() < 0.95 else rng.choice((None, {}, dict(path='/etc/passwd')))
    texts = []
    for _ in range(2):
        separator = rng.choice(('\n', ';'))
        num_names = rng.choice((0, 1, 2, 3, 3, 8))
        texts.append(separator.join(str(random_class_name(rng)) for _ in range(num_names)))
    gamma = rng.random()
    lam = rng.random()
    x = rng.randint(-2, 99)
    y = rng.randint(-2, 99)
    mode = rng.choice(handlers.modes)
    html = []
    try:
        session, message, *_ = handlers.load_image(upload, texts[0], gamma, lam)
        html.append(message)
        if session is not None:
            session, message, *_ = handlers.classify(session, texts[1], gamma, lam)
            html.append(message)
        handlers.parsed_names(texts[1])
        handlers.redraw(session, lam, gamma)
        html.append(handlers.explain_pixel(session, mode, x, y, gamma, lam)[-1])
        html.append(handlers.make_files(session, mode, gamma, lam)[1])
    except Exception:  # of any kind: this is what fuzzing looks for
        return 'failure', traceback.format_exc(limit=-2)
    # A class name must be text in the page, not an element.
    injected = [text for text in html if re.search(r'<(script|img|svg|iframe)', text)]
    is_segmented = session is not None and session.preview is not None
    return 'segmented' if is_segmented else 'rejected', repr(injected[0]) if injected else None


@one_line_errors
def main() -> None:
    args = parse_args()
    inferencer = ZeroShotInferencer(args.config, device=args.device)
    MMLogger.get_current_instance().setLevel('ERROR')  # no warnings of odd names
    inferencer(np.zeros((32, 32, 3), np.uint8))
    counts = Counter()
    num_failures = 0
    slowest = (0.0, 0)
    memory = [resident_bytes(trim=True)]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = inferencer
        fuzz = fuzz_inferencer
        if args.page:
            # Gradio reads this when it is imported.
            os.environ['GRADIO_TEMP_DIR'] = folder
            from mmzeg.apis.demo_page_events import EventHandlers

            target = EventHandlers(inferencer)
            fuzz = fuzz_page
        for seed in range(args.seed, args.seed + args.number):
            input_start = time.monotonic()
            if input_start - start > 60 * args.minutes:
                break
            kind, failure = fuzz(target, seed, Path(folder))
            counts[kind] += 1
            slowest = max(slowest, (time.monotonic() - input_start, seed))
            memory.append(resident_bytes(trim=True))
            if failure:
                num_failures += 1
                print(f'seed {seed}: {kind}: {failure}', flush=True)
    kinds = ', '.join(f'{count} {kind}' for kind, count in counts.most_common())
    eighths = [memory[min(len(memory) * eighth // 8, len(memory) - 1)] for eighth in range(9)]
    print(f'{sum(counts.values())} inputs in {time.monotonic() - start:.0f} s: {kinds}')
    print('resident MB: ' + ', '.join(f'{value / 2**20:.0f}' for value in eighths))
    print(f'slowest: {slowest[0]:.1f} s, seed {slowest[1]}\n{num_failures} failures')
    sys.exit(1 if num_failures else 0)


if __name__ == '__main__':
    main()
