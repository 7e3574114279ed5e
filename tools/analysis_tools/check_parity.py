"""Compare mmzeg with tensors that the released ZegFormer, or its per-pixel baseline, computed, value by value.

    python tools/analysis_tools/check_parity.py CASE_DIR

Prints a row per value of the case. Exit code 1 if a value is off, or the case holds a value that is not compared.
"""

import argparse
import sys
from pathlib import Path

from mmzeg.models.execution import MODES
from mmzeg.parity import check_case
from mmzeg.utils.preflight import one_line_errors


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('case', type=Path, help='folder with case.json and its tensors')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--execution', choices=MODES, default='auto', help="of ZegFormer's test")
    args = parser.parse_args()
    comparison = check_case(args.case, args.device, args.execution)
    print(comparison.table)
    print(f'{len(comparison.table.rows)} values, {comparison.num_failed} off')
    sys.exit(int(comparison.num_failed > 0))


if __name__ == '__main__':
    main()
