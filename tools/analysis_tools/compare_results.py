"""List the settings that differ between two tests, and the classes that changed most.

python tools/analysis_tools/compare_results.py work_dirs/a/report.json work_dirs/b/report.json

Reads the reports that tools/test.py writes.
"""

import argparse
from pathlib import Path

from mmzeg.evaluation.report_comparison import compare_reports, read_report
from mmzeg.utils.preflight import one_line_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('report_a', type=Path, help='report.json of test A')
    parser.add_argument('report_b', type=Path, help='report.json of test B')
    parser.add_argument('--classes', type=int, default=10, help='number of classes to list')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    comparison = compare_reports(read_report(args.report_a), read_report(args.report_b), args.classes)
    print(f'A: {args.report_a}\nB: {args.report_b}\n{comparison}')


if __name__ == '__main__':
    main()
