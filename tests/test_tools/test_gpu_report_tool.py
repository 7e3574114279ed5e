"""tools/gpu_report.py on a CPU, with small sizes: every part, and both files."""

import json
from pathlib import Path

from python_runs import run_python

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [str(ROOT / 'tools/gpu_report.py'), *map(str, arguments)]
    return run_python(command, ROOT)


def test_complete_report(tmp_path):
    result = run('--device', 'cpu', '--out', tmp_path)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    report = json.loads((tmp_path / 'gpu_report.json').read_text())
    parity, precision, training, speed = report['sections']
    assert report['machine']['device'] == 'cpu' and report['machine']['torch']
    # Golden cases
    golden = parity['tables'][0]['rows']
    values = {row['case']: row['values'] for row in golden}
    assert [values[case] for case in ('r50_single', 'r50_batch2', 'per_pixel')] == [107, 103, 7]
    assert all(row['off'] == 0 and row['values'] > 0 for row in golden)
    # Half precision
    agreement = {row['precision']: row['equal labels'] for row in precision['tables'][0]['rows']}
    assert agreement['float32'] == 100 and 95 <= agreement['CLIP bfloat16'] <= 100 and len(agreement) == 3
    # Training
    rows = training['tables'][0]['rows']
    assert [(row['config'][:6], row['precision']) for row in rows] == [
        (config, precision) for config in ('zegfor', 'maskfo') for precision in ('float32', 'mixed')
    ]
    assert all(row['its value'] > 0 and row['images/s'] > 0 and row['peak MiB'] > 0 for row in rows)
    # Speed
    rows = speed['tables'][0]['rows']
    variants = ['exact', 'guaranteed', 'threshold', 'merged', 'one-pass', '', '']
    assert [(row['batch'], row['variant']) for row in rows] == [(size, name) for size in (1, 2) for name in variants]
    assert all(row['seconds'] > 0 for row in rows)
    traces = [table for section in (training, speed) for table in section['tables'][1:]]
    assert len(traces) == 3 and all(len(table['rows']) == 10 for table in traces)
    # Markdown
    markdown = (tmp_path / 'gpu_report.md').read_text()
    assert markdown.count('\n## ') == 4 and 'Failed' not in markdown and 'Sizes are small' in markdown
    # A caption below every table but the machine's
    assert markdown.count('\n\n*') == markdown.count('\n| :--') - 1 == sum(len(s['tables']) for s in report['sections'])


def test_one_part_and_its_failure(tmp_path):
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken/case.json').write_text('{"kind": "other"}')
    result = run('--device', 'cpu', '--only', 'parity', '--golden', tmp_path, '--out', tmp_path / 'out')
    assert result.returncode == 1
    failure = result.stdout.splitlines()[-1]
    assert failure.startswith('failed: Parity with the released code: broken, batched: ValueError')
    assert (tmp_path / 'out/gpu_report.md').is_file()


def test_no_gpu():
    result = run('--device', 'cuda:99')
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("mmzeg: error: device 'cuda:99'")
