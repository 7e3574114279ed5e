"""Golden cases: compare mmzeg with tensors that the released ZegFormer code computed, value by value.

``tools/analysis_tools/check_parity.py`` is the command line; docs/en/reproducing.md#parity-with-the-released-code.
"""

from .case_kinds import check_case
from .comparison import Comparison
from .model_configs import MODES, per_pixel_config, zegformer_config

__all__ = ['MODES', 'Comparison', 'check_case', 'per_pixel_config', 'zegformer_config']
