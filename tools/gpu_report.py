"""Check and measure mmzeg on a GPU, and write a report in Markdown and JSON; `make gpu-report` runs it.

    python tools/gpu_report.py [--device cuda] [--only parity precision training speed]

Ends with a line per check that failed; exit code 1 if there is any.
"""

import argparse
import sys
from pathlib import Path

from mmzeg.benchmarking.gpu_report.options import ReportOptions
from mmzeg.benchmarking.gpu_report.report import PARTS, make_report
from mmzeg.utils.preflight import one_line_errors

ROOT = Path(__file__).parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='cuda, or cpu, where all sizes are small')
    parser.add_argument('--only', nargs='+', choices=list(PARTS), default=list(PARTS), help='parts of the report')
    parser.add_argument('--golden', type=Path, default=ROOT / 'tests/data/golden', help='folder of golden cases')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_report'), help='folder of the report')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    report = make_report(ReportOptions(args.device, args.golden), args.only, args.out)
    print(report.markdown())
    print(args.out / 'gpu_report.md', args.out / 'gpu_report.json', sep='\n')
    for problem in report.problems:
        print(f'failed: {problem}')
    sys.exit(int(bool(report.problems)))


if __name__ == '__main__':
    main()
