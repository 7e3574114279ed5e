"""Part 1: the golden cases on the device, in float32 without TF32."""

import time

from mmzeg.benchmarking.gpu_report.options import ReportOptions
from mmzeg.benchmarking.gpu_report.section import Section
from mmzeg.parity import check_case


def check_parity(options: ReportOptions) -> Section:
    """Compare mmzeg with the released code's tensors on the device, in every execution mode."""
    section = Section('Parity with the released code')
    rows = section.add_table(
        'Golden cases in float32 without TF32: values that `check_parity.py` compares with those of the released code, '
        'and how many are off by more than it allows. Execution matters to the cases of ZegFormer and OVSeg only.'
    )
    folders = sorted(path.parent for path in options.golden.glob('**/case.json'))
    section.check(bool(folders), f'{options.golden}: no golden case: give the folder as --golden')
    for folder in folders:
        for execution in options.sizes.executions:
            with section.step(f'{folder.name}, {execution}'):
                start = time.perf_counter()
                comparison = check_case(folder, options.device, execution)
                rows.append(
                    dict(
                        case=str(folder.relative_to(options.golden)),
                        execution=execution,
                        values=len(comparison.table.rows),
                        off=comparison.num_failed,
                        seconds=time.perf_counter() - start,
                    )
                )
                for name, difference, tolerance, is_ok in comparison.table.rows:
                    problem = f'{folder.name}, {execution}: {name} is off by {difference}, allowed {tolerance}'
                    section.check(is_ok == 'yes', problem)
    return section
