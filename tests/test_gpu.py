"""tests/gpu.sh measures what it can, part by part, and goes on where it was stopped."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def rehearse(checkout, out):
    """Run gpu.sh --rehearse; returns its rows, without the header."""
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    command = ['bash', str(checkout / 'tests' / 'gpu.sh'), str(out), '--rehearse']
    subprocess.run(command, check=True, env={**os.environ, 'PATH': path}, timeout=480)
    with open(out / 'rows.csv', newline='') as file:
        header, *rows = csv.reader(file)
    assert all(len(row) == len(header) == 5 for row in rows)
    return rows


@pytest.mark.slow
def test_gpu_script_goes_on_after_a_failing_part_and_repeats_only_that(tmp_path):
    checkout, out = tmp_path / 'checkout', tmp_path / 'out'
    for name in ('dcgan', 'tests'):
        shutil.copytree(ROOT / name, checkout / name)
    for file in ROOT.glob('*.py'):
        shutil.copy(file, checkout)
    recorded = checkout / 'tests' / 'golden' / 'cond28' / 'train.json'
    text = recorded.read_text()
    recorded.unlink()
    rows = rehearse(checkout, out)
    ends = {row[0]: row[1] for row in rows}  # of each part
    assert ends.pop('recording-cond28-xla-false') == 'failed'
    assert {'seeds', 'bench-float32', 'main-images', 'page', 'torch'} < ends.keys()
    assert set(ends.values()) <= {'done', 'skipped'}
    recorded.write_text(text)
    repeated = rehearse(checkout, out)
    assert repeated[: len(rows)] == rows
    added = {row[0]: row[1] for row in repeated[len(rows) :]}
    assert added == {'recording-cond28-xla-false': 'done'}
    assert rehearse(checkout, out) == repeated
