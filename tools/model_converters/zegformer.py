"""Convert a checkpoint of the released ZegFormer into mmzeg's names.

python tools/model_converters/zegformer.py SRC DST
"""

from torch import Tensor

from mmzeg.utils.model_converter import convert_file
from mmzeg.utils.released_names import clip_names, convert_released
from mmzeg.utils.weight_files import read_state


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a released state dict, and print how many weights of CLIP it holds, which are skipped."""
    weights = convert_released(state)
    num_skipped = len(clip_names(state))
    if num_skipped:
        print(f'{num_skipped} weights of a frozen CLIP skipped: mmzeg reads CLIP from its own file')
    return weights


if __name__ == '__main__':
    convert_file(__doc__, read_state, convert)
