"""This project reproduces the recordings of the original: numbers, images, files."""

import json
import runpy
import shutil

import numpy as np
import pytest
from conftest import ROOT, run

GOLDEN = ROOT / 'tests' / 'golden'
CONFORMANCE = ROOT / 'tests' / 'conformance'


def run_driver(tmp_path, script, *args):
    """Run a script of tests/conformance, in another process."""
    result = run(CONFORMANCE / script, *args, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    'case, xla',
    [
        pytest.param('cond28', False, marks=pytest.mark.smoke),
        pytest.param('rgb64', False, marks=pytest.mark.slow),
        pytest.param('rgb_odd', False, marks=pytest.mark.slow),
        pytest.param('cond28', True, marks=pytest.mark.slow),
        pytest.param('rgb64', True, marks=pytest.mark.slow),
    ],
)
def test_recording_of_the_original_is_reproduced(case, xla, tmp_path, capsys):
    shutil.copytree(GOLDEN / case / 'checkpoint', tmp_path / 'checkpoint')
    recorded = json.loads((GOLDEN / case / 'case.json').read_text())
    recorded['dcgan']['xla'] = xla
    settings = tmp_path / 'case.json'
    settings.write_text(json.dumps(recorded))
    args = ['run', '--impl', ROOT, '--case', settings, '--out', tmp_path]
    run_driver(tmp_path, 'drive.py', *args)
    compare = runpy.run_path(str(CONFORMANCE / 'compare.py'))['main']
    failed = compare(str(GOLDEN / case), str(tmp_path))
    assert not failed, capsys.readouterr().out


def test_images_are_read_and_grids_written_as_by_the_original(tmp_path):
    out = tmp_path / 'images.npz'
    images = GOLDEN / 'images'
    args = ['--impl', ROOT, '--images', images, '--out', out]
    run_driver(tmp_path, 'drive_images.py', *args)
    recorded, ours = np.load(images / 'images.npz'), np.load(out)
    for name in recorded.files:
        error = np.abs(recorded[name].astype(float) - ours[name]).max()
        # saved grids are uint8; images that are read are floats in [-1, 1]
        limit = 1 if name.startswith('save') else 0.03 if '.jpg' in name else 0.009
        assert error <= limit, (name, error)
