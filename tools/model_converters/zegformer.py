"""Convert a checkpoint of the released ZegFormer into mmzeg's names.

python tools/model_converters/zegformer.py SRC DST
"""

from mmzeg.utils.model_converter import convert_file
from mmzeg.utils.released_names import convert_released
from mmzeg.utils.weight_files import read_state

if __name__ == '__main__':
    convert_file(__doc__, read_state, convert_released)
