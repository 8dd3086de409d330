"""Measures without labels, by statistics, of seeds, of checkpoints, in training."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SMALL, read_checkpoint, run_in_process, use, write_images
from PIL import Image
from scipy import signal
from test_evaluation import evaluate, write_means

from dcgan.data.dataset import open_dataset
from dcgan.evaluation import random_network
from dcgan.evaluation.evaluate import keep
from dcgan.evaluation.random_network import RandomNetwork
from dcgan.evaluation.references import References
from dcgan.training.checkpoints import checkpoints, step_of


@pytest.fixture(scope='module')
def workspace(workspace):
    """A copy of tiny_runs, with a network whose features are the means of colors."""
    write_means(workspace / 'means.pb')
    return workspace


def rows_of(workspace, name='cats'):
    """The rows of a run's evaluations.jsonl."""
    lines = (workspace / 'out' / name / 'evaluations.jsonl').read_text().splitlines()
    return [*map(json.loads, lines)]


def test_pictures_without_labels_are_measured_without_a_download(workspace):
    output, rows = evaluate(workspace, 'cats')
    by = 'random network'
    measures = {measure for measure, extractor in rows if extractor == by}
    assert measures >= {'frechet_distance', 'kernel_distance', 'precision', 'recall'}
    assert (
        rows['swd', None]['levels'].keys() == {'16'} and rows['swd', None]['value'] > 0
    )
    assert rows['swd', None]['compared'] == 24  # there are no more real images
    assert 0 < rows['ms_ssim', None]['value'] <= 1
    assert rows['ms_ssim', None]['compared'] == 100
    assert rows['ms_ssim_real', None]['compared'] == 24
    assert f'\n  Frechet distance ({by}) ' in output and '\n  SWD ' in output
    assert 'FID' not in output


@pytest.mark.slow
def test_images_below_16_pixels_are_measured_without_swd(tmp_path):
    write_images(tmp_path / 'data' / 'small', 24, size=(12, 12))
    args = [*SMALL, '--output_height', 12, '--dataset', 'small', '--epoch', 1]
    use(tmp_path, 'small', '--train', *args)
    output, rows = evaluate(tmp_path, 'small')
    assert output.count(' [!] SWD is left out: ') == 1
    assert ('swd', None) not in rows and ('ms_ssim', None) in rows
    args = ['--out_name', 'small', '--evaluate_all', '--best_by', 'SWD']
    result = run_in_process(*args, cwd=tmp_path)
    assert '--best_by SWD: give one of FD_random_network\n' in result.stderr


def test_images_beyond_those_that_are_compared_do_not_stay_in_memory():
    kept, batches = [], np.arange(12).reshape(3, 4, 1)
    for images in batches:
        keep(kept, images, 6)
    assert [part.ravel().tolist() for part in kept] == [[0, 1, 2, 3], [4, 5]]


def test_the_random_network_is_three_convolutions_of_fixed_weights():
    images = np.random.RandomState(3).randint(0, 256, (2, 12, 9, 1)).astype(np.uint8)
    network = RandomNetwork((12, 9, 1))
    assert network.digest[:16] == RandomNetwork((64, 64, 3)).digest[:16]
    rng, expected = np.random.RandomState(0), []
    x = (images[0] / 127.5 - 1).repeat(3, axis=2)
    for filters in random_network.FILTERS:
        w = rng.normal(0, (2 / 25 / x.shape[2]) ** 0.5, (25 * x.shape[2], filters))
        w = w.reshape(5, 5, x.shape[2], filters)[::-1, ::-1, ::-1]
        # SAME: of an odd size, as many zeros on both sides, or else one more behind
        padding = [(2, 2) if size % 2 else (1, 2) for size in x.shape[:2]]
        padded = np.pad(x, [*padding, (0, 0)])
        maps = [signal.convolve(padded, w[..., n], 'valid') for n in range(filters)]
        x = np.concatenate(maps, axis=2)[::2, ::2]
        x = np.where(x > 0, x, 0.2 * x)
        expected += x.mean(axis=(0, 1)).tolist()
    assert network.features(images)[0] == pytest.approx(expected, abs=1e-5)


def test_statistics_give_the_distance_that_the_data_set_gives(tiny_copy):
    write_means(tiny_copy / 'means.pb')
    by = ['--features', 'means.pb', '--evaluate_samples', 100]
    write = '--write_statistics', 'cats.npz', '--train'  # once it is trained
    output = use(tiny_copy, 'cats', *write, *by)
    assert ' [*] cats.npz\n' in output and not [*tiny_copy.rglob('evaluations.jsonl')]
    _, rows = evaluate(tiny_copy, 'cats', *by)
    shutil.rmtree(tiny_copy / 'data' / 'cats')
    output = use(tiny_copy, 'cats', '--statistics', 'cats.npz', *by)
    found = {row['measure']: row for row in rows_of(tiny_copy)[len(rows) :]}
    expected = rows['frechet_distance', 'means.pb']['value']
    assert found['frechet_distance']['value'] == pytest.approx(expected, rel=1e-6)
    assert found.keys() == {'frechet_distance', 'ms_ssim'}
    assert 'samples (seed 0), cats.npz\n' in output


def test_pairs_of_samples_have_one_class_as_often_as_by_chance():
    references = SimpleNamespace(dcgan=SimpleNamespace(y_dim=4), real=None)
    labels = References.labels(references, 400)
    assert np.bincount(labels).tolist() == [100] * 4
    assert (labels == np.roll(labels, -1)).mean() == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--statistics', 'a.npz'], 'run "download.py inception", or give --features'),
        (['--write_statistics', 'a.npz'], 'run "download.py inception", or give'),
        (
            ['--statistics', 'a.npz', '--features', 'means.pb'],
            'a.npz: not an .npz file of mu [3] and sigma [3, 3], as means.pb has',
        ),
        (['--statistics', 'b.npz'], '--statistics b.npz: no such file or folder'),
        (['--write_statistics', 'a.txt'], 'a.txt: the name has to end in .npz'),
        (['--evaluate_all', '--best_by', 'FID'], 'give one of FD_random_network, SWD'),
    ],
)
def test_statistics_and_measures_that_cannot_be_used_are_named(
    workspace, flags, message
):
    np.savez(workspace / 'a.npz', mu=np.zeros(2), sigma=np.eye(2))
    result = run_in_process('--out_name', 'cats', *flags, cwd=workspace)
    assert result.returncode == 1 and message in result.stderr, result.stderr


@pytest.mark.parametrize('grayscale', [False, True])
def test_images_are_read_plainly_for_an_evaluation(tmp_path, grayscale):
    pixels = np.random.RandomState(0).randint(90, 120, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    size = (16, 16), (16, 16)
    sets = [
        open_dataset(str(tmp_path), '*.png', *size, False, grayscale, **how)
        for how in ({}, {'stretch': False})
    ]
    stretched, plain = (data.take(np.array([0]))[0][0] for data in sets)
    assert np.ptp(stretched) == 255 and sets[0].digest() != sets[1].digest()
    expected = Image.fromarray(pixels).convert('F') if grayscale else pixels
    assert np.abs(plain.squeeze() - np.asarray(expected, float)).max() <= 0.5


def test_several_seeds_have_a_mean_and_a_deviation(tiny_copy):
    write_means(tiny_copy / 'means.pb')
    by = '--features', 'means.pb', '--evaluate_samples', 50, '--seed', 2**32 - 1
    output = use(tiny_copy, 'cats', '--evaluate_repeats', 2, *by)
    rows = [r for r in rows_of(tiny_copy) if r['measure'] == 'frechet_distance']
    values = [r['value'] for r in rows if r['extractor'] == 'means.pb']
    assert [row['seed'] for row in rows] == [2**32 - 1] * 2 + [2**32] * 2
    assert values[0] != values[1]
    line = f'{np.mean(values):.4g} +- {np.std(values, ddof=1):.4g}\n'
    assert re.search(rf'Frechet distance \(means.pb\) +{re.escape(line)}', output)
    assert ' 50 samples (seeds 4294967295 to 4294967296), 24 real images\n' in output


def test_all_checkpoints_are_measured(tiny_copy):
    output = use(tiny_copy, 'cats', '--evaluate_all', '--evaluate_samples', 40)
    rows = rows_of(tiny_copy)
    assert [row['iteration'] for row in rows] == [1, 2, 3]
    names = {(row['measure'], row['extractor']) for row in rows}
    assert names == {('frechet_distance', 'random network')}
    table = re.findall(r'^ +(\d)  ([\d.]+)(, the best)?$', output, re.M)
    values = [row['value'] for row in rows]
    best = [', the best' if value == min(values) else '' for value in values]
    assert table == [*zip('123', (f'{value:.4g}' for value in values), best)]
    assert (tiny_copy / 'out' / 'cats' / 'evaluations.png').stat().st_size > 1000


@pytest.mark.slow
def test_a_damaged_checkpoint_is_left_out_and_a_full_disk_ends_evaluations(tiny_copy):
    run = tiny_copy / 'out' / 'cats'
    (run / 'checkpoint' / 'model.b8-2.data-00000-of-00001').write_bytes(b'cut')
    output = use(tiny_copy, 'cats', '--evaluate_all', '--evaluate_samples', 40)
    assert [row['iteration'] for row in rows_of(tiny_copy)] == [1, 3]
    assert len(re.findall(r' \[!\] No \S+/checkpoint/model\.b8-2: ', output)) == 1
    (run / 'evaluations.jsonl').unlink()
    (run / 'evaluations.jsonl').mkdir()  # as where nothing can be written
    result = run_in_process('--out_name', 'cats', '--evaluate_all', cwd=tiny_copy)
    assert result.returncode == 1
    assert 'evaluations.jsonl: cannot be written' in result.stderr


def test_samples_are_measured_while_a_run_trains(tiny_copy):
    often = ['--sample_freq', 1, '--ckpt_freq', 1, '--max_to_keep', 0, '--epoch', 1]
    args = ['--dataset', 'cats', *often, *SMALL, '--train', '--seed', 1]
    args += ['--evaluate_freq', 1, '--evaluate_samples', 40, '--best_by', 'SWD']
    output = use(tiny_copy, 'measured', *args)
    line = r'\[\*\] SWD ([\d.]+), FD_random_network [\d.]+ of 40 samples.*% of the '
    values = [float(value) for value in re.findall(line, output)]
    folders = [tiny_copy / 'out' / name / 'checkpoint' for name in ('cats', 'measured')]
    without, measured = map(read_checkpoint, folders)
    assert all((value == measured[name]).all() for name, value in without.items())
    best = checkpoints(str(folders[1] / 'best'))
    assert [*map(step_of, best)] == [values.index(min(values)) + 1]
