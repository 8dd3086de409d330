"""From pictures back to z: inversion, completion, anomaly scores."""

import csv
import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import printed_paths, run_in_process, use, write_idx_set, write_images
from PIL import Image

from dcgan.inversion import How, invert
from dcgan.inversion.anomaly import held_out_scores
from dcgan.inversion.complete import fill, holes_of, importance
from dcgan.inversion.pictures import Pictures, read_pictures
from dcgan.sampling.samples import draw
from dcgan.util.errors import UserError
from dcgan.util.z import gen_random
from model import DCGAN

QUICK = ['--invert_steps', 3, '--invert_starts', 2]


@pytest.fixture
def vivid(make_dcgan):
    """A function that builds a tiny model, whose weights are larger than at first."""

    def make(**changes):
        dcgan = make_dcgan(**changes)
        for variable in tf.trainable_variables():
            if variable.shape.ndims > 1:
                dcgan.sess.run(variable.assign(25 * variable))
        return dcgan

    return make


def own_samples(dcgan, count, labels=None, z_dist='uniform_signed'):
    np.random.seed(3)
    z = gen_random(z_dist, (count, dcgan.z_dim)).astype(np.float32)
    return draw(dcgan.sess, dcgan, z, labels, as_bytes=True)


@pytest.mark.parametrize('z_dist', ['uniform_signed', 'uniform_unsigned', 'normal01'])
def test_the_z_of_samples_is_found_in_the_range_of_z(vivid, z_dist):
    dcgan = vivid()
    images = own_samples(dcgan, 20, z_dist=z_dist)
    found = invert(dcgan, images, how=How(steps=150, z_dist=z_dist, frames=24))
    assert np.mean(found.distances < 0.1 * found.first.mean()) >= 0.9
    least, most = {'normal01': (-9, 9), 'uniform_unsigned': (0, 1)}.get(z_dist, (-1, 1))
    assert least <= found.z.min() and found.z.max() <= most
    assert (found.path[:, -1] == found.z).all() and found.path.shape == (20, 24, 5)
    drawn = draw(dcgan.sess, dcgan, found.z, as_bytes=True)
    assert (drawn == found.images).all()
    difference = np.abs(drawn / 255.0 - images / 255.0).mean((1, 2, 3))
    assert np.abs(difference - found.distances).max() < 1 / 255


def test_unknown_classes_are_found_and_known_ones_kept(vivid):
    dcgan = vivid(y_dim=3)
    labels = np.arange(12) % 3
    images = own_samples(dcgan, 12, labels)
    found = invert(dcgan, images, how=How(steps=100))
    assert np.mean(found.labels == labels) > 0.8
    given = invert(dcgan, images, (labels + 1) % 3, how=How(steps=100))
    assert (given.labels == (labels + 1) % 3).all()
    assert given.distances.mean() > found.distances.mean()
    limited = invert(dcgan, images, how=How(steps=2, classes=(0, 2)))
    assert {*limited.labels} <= {0, 2}


def test_more_starts_come_nearer_and_a_seed_repeats_them(vivid):
    dcgan = vivid()
    images, losses = own_samples(dcgan, 10), []
    for starts in (1, 8, 8):
        np.random.seed(1)
        found = invert(dcgan, images, how=How(steps=20, starts=starts))
        losses.append(found.losses)
    assert losses[1].mean() < losses[0].mean() and (losses[1] == losses[2]).all()


def test_gradients_of_all_terms_agree_with_finite_differences(vivid):
    dcgan = vivid(y_dim=2)
    images, labels = (
        own_samples(dcgan, 4, np.array([0, 1, 0, 1])),
        np.eye(2)[[0, 1, 1, 0]],
    )
    how = How(pixels=0.3, features=0.5, prior=2.0, steps=1)
    invert(dcgan, images, np.array([0, 1, 0, 1]), how=how)
    (inverter,) = dcgan.inverters.values()
    weights = np.random.RandomState(0).random_sample((4, 16, 16, 1))
    feed = {inverter.images: images, inverter.weights: weights}
    feed |= {dcgan.sampler_y: labels, dcgan.y: np.zeros((6, 2))}
    z = np.random.RandomState(1).uniform(-1, 1, (4, 5))
    gradient = dcgan.sess.run(inverter.step, {**feed, dcgan.z: z})[1]
    for i in range(5):
        step = np.eye(5)[i] * 1e-3
        plus, minus = (
            dcgan.sess.run(inverter.step, {**feed, dcgan.z: z + s})[0]['losses']
            for s in (step, -step)
        )
        assert np.allclose((plus - minus) / 2e-3, gradient[:, i], rtol=0.05, atol=0.3)


def test_a_sampler_with_a_fixed_batch_is_inverted(vivid, monkeypatch):
    def sampler(self, z, y=None):
        z = tf.reshape(z, [6, 5])
        return self.generator(z, y, reuse=True)

    monkeypatch.setattr(DCGAN, 'sampler', sampler)
    dcgan = vivid()
    assert dcgan.sampler.shape[0] == 6
    images = np.zeros((4, 16, 16, 3), np.uint8)
    assert invert(dcgan, images, how=How(steps=2, starts=2)).z.shape == (4, 5)


def pictures_of(images):
    names = np.array([f'{i}.png' for i in range(len(images))])
    return Pictures(names, images, np.full(len(images), -1))


def test_masks_hide_what_their_names_say():
    pictures = pictures_of(np.zeros((3, 8, 12, 1), np.uint8))
    center, left, full, random, grid = (
        holes_of(name, pictures)
        for name in ('center', 'left', 'full', 'random', 'grid')
    )
    assert center.sum() == 3 * 4 * 6 and center[:, 2:6, 3:9].all()
    assert left[:, :, :6].all() and not left[:, :, 6:].any()
    assert full.all() and not grid[:, ::4, ::4].any() and grid.sum() == 3 * (96 - 6)
    assert 0 < random.mean() < 0.5 and (random[0] != random[1]).any()


def test_pixels_count_by_the_holes_in_the_window_around_them():
    holes = np.zeros((3, 9, 9), bool)
    holes[0, 4, 4], holes[1] = True, True
    weights = importance(holes)[..., 0]
    window = np.pad(np.full((7, 7), 1 / 49), 1)
    window[4, 4] = 0
    assert np.allclose(weights[0], window)
    assert (weights[1:] == 1).all()  # all is hidden, or nothing


def test_blending_keeps_differences_of_the_sample_and_joins_what_is_around():
    rng = np.random.RandomState(0)
    images = rng.randint(80, 170, (2, 12, 10, 3)).astype(np.uint8)
    holes = np.zeros((2, 12, 10), bool)
    holes[0, 3:9, 2:7], holes[1, :, 4:], holes[1, 0, 0] = True, True, True
    brighter = images + np.uint8(60)
    assert (fill(images, brighter, holes, 'poisson') == images).all()
    plain = fill(images, brighter, holes, 'none')
    assert (plain[holes] == brighter[holes]).all()
    assert (plain[~holes] == images[~holes]).all()
    other = rng.randint(0, 256, images.shape).astype(np.uint8)
    assert (fill(images, other, holes, 'poisson')[~holes] == images[~holes]).all()
    assert (fill(images, other, ~holes | holes, 'poisson') == other).all()


def main(workspace, name, *args):
    """Run main.py on a run; returns what it printed, and its paths."""
    result = run_in_process('--out_name', name, *QUICK, *args, cwd=workspace)
    return result.stdout, printed_paths(workspace, result)


def test_what_invert_writes_is_drawn_interpolated_and_calculated_with(workspace):
    args = ['--invert', 'data/cats', '--train_size', 5, '--seed', 1]
    printed, (npz, grid) = main(workspace, 'cats', *args)
    assert '5 pictures: mean distance 0.' in printed
    first = dict(np.load(npz))
    assert first['images'].shape == (5, 16, 16, 3) and len(first['distances']) == 5
    assert all(name.endswith('.png') for name in first['names'])
    with Image.open(grid) as image:
        assert image.size == (3 * (3 * 16 + 2), 3 * 18)
    _, (npz, _) = main(workspace, 'cats', *args)
    assert all((first[name] == array).all() for name, array in np.load(npz).items())
    kept = str(workspace / 'z.npz')
    shutil.move(npz, kept)
    paths = printed_paths(
        workspace,
        run_in_process('--out_name', 'cats', '--z_file', kept, '--npz', cwd=workspace),
    )
    assert (np.load(paths[1])['images'] == first['images']).all()
    for option, size in ('interpolate', (160, 64)), ('arithmetic', (9 * 16, 4 * 16)):
        args = ['--visualize_option', option, '--arithmetic', '0,1-2+4']
        path = use(workspace, 'cats', *args, '--z_file', kept).split()[-1]
        with Image.open(workspace / path) as image:
            assert image.size == size


def test_completions_keep_every_byte_around_the_holes(workspace):
    write_images(workspace / 'more' / 'deep', count=3, size=(16, 16))
    for mask in ('mask.png', 'masks'):
        holes = np.zeros((16, 16), np.uint8)
        holes[2:5, 1:9] = holes[9:, 9:] = 255
        Image.fromarray(holes).save(workspace / 'mask.png')
        os.makedirs(workspace / 'masks' / 'deep', exist_ok=True)
        for i in range(3):
            Image.fromarray(np.roll(holes, i)).save(
                workspace / 'masks' / 'deep' / f'{i:03d}.png'
            )
        args = ['--mask', mask, '--separate_images', '--gif', '--seed', 1]
        _, paths = main(workspace, 'cats', '--complete', 'more', *args)
        names = [os.path.basename(path) for path in paths]
        assert names == ['completed.npz', 'completed.png', 'completed.gif', 'completed']
        arrays = np.load(paths[0])
        assert [*arrays['names']] == [f'deep/{i:03d}.png' for i in range(3)]
        with Image.open(paths[2]) as image:
            assert image.n_frames > 1
        for i, completed in enumerate(arrays['images']):
            with Image.open(workspace / 'more' / 'deep' / f'{i:03d}.png') as image:
                original = np.asarray(image)
            pictures = pictures_of(original[None])._replace(names=[f'deep/{i:03d}.png'])
            hole = holes_of(str(workspace / mask), pictures)[0]
            assert (completed[~hole] == original[~hole]).all()
            assert (completed[hole] != original[hole]).any()
            with Image.open(f'{paths[3]}/{i:05d}_{i:03d}.png') as image:
                assert (np.asarray(image) == completed).all()
    name = 'long' * 60 + '.png'
    shutil.copy(workspace / 'more' / 'deep' / '000.png', workspace / name)
    main(workspace, 'cats', '--complete', name, '--separate_images')
    (path,) = os.listdir(paths[3])  # and no files of other pictures
    assert path.startswith('00000_longlong')


def test_what_is_hidden_has_no_effect_on_completions(workspace):
    write_images(workspace / 'shown', count=2, size=(16, 16))
    args = ['--complete', 'shown', '--invert_features', 9, '--seed', 1]
    _, (npz, _) = main(workspace, 'cats', *args)
    first = np.load(npz)['z']
    for path in (workspace / 'shown').iterdir():
        with Image.open(path) as image:
            image.paste((0, 0, 255), (4, 4, 12, 12))
            image.save(path)
    main(workspace, 'cats', *args)
    assert (np.load(npz)['z'] == first).all()


def rows_of(path):
    with open(path, newline='') as file:
        return [*csv.DictReader(file)]


def test_scores_are_percentiles_of_the_rows_that_training_left(tiny_copy):
    flags = tiny_copy / 'out' / 'set' / 'FLAGS.json'
    flags.write_text(
        re.sub('"train_size": [^,]*', '"train_size": 12', flags.read_text())
    )
    for i, kind in enumerate(('normal', 'abnormal', 'normal', 'abnormal')):
        write_images(tiny_copy / 'new' / kind, count=i + 1)
    write_images(tiny_copy / 'new' / 'other', count=1)
    args = ['--anomaly', 'new', '--anomaly_threshold', 50, '--seed', 1]
    printed, paths = main(tiny_copy, 'set', *args)
    assert printed.index('12 held-out pictures: mean') < printed.index(
        '8 pictures: mean'
    )
    names = ['anomaly.csv', 'anomaly.png', 'anomaly_roc.png']
    assert [os.path.basename(path) for path in paths] == names
    area = float(re.search(r'AUC (0\.\d+|1.0+): 3 normal, 4 abnormal', printed)[1])
    rows = rows_of(paths[0])
    scores = {
        kind: [float(r['score']) for r in rows if r['name'].startswith(kind)]
        for kind in ('normal', 'abnormal')
    }
    pairs = [a > n for a in scores['abnormal'] for n in scores['normal']]
    assert abs(area - np.mean(pairs)) < 1e-4
    (kept,) = (tiny_copy / 'out' / 'set').glob('held_out-*.npz')
    losses = np.load(kept)['losses']
    for row in rows:
        score, percentile, residual, features = (
            float(row[n]) for n in ('score', 'percentile', 'residual', 'features')
        )
        assert np.isclose(score, 0.9 * residual + 0.1 * features, rtol=1e-4)
        assert np.isclose(percentile, 100 * np.mean(losses < score), atol=0.01)
        assert (row['is_anomaly'] == '1') == (percentile >= 50)
    again, _ = main(tiny_copy, 'set', *args)  # of the scores that are kept
    assert rows_of(paths[0]) == rows and '12 held-out' in again


def test_without_held_out_pictures_there_are_no_percentiles(workspace):
    printed, paths = main(workspace, 'cats', '--anomaly', 'dataset', '--train_size', 3)
    assert '[!] No percentiles: no pictures are held out' in printed
    assert [row['percentile'] for row in rows_of(paths[0])] == ['', '', '']
    args = ['--anomaly', 'data/cats/000.png', '--held_out', 'data/cats']
    printed, paths = main(workspace, 'cats', *args)
    assert '24 held-out' in printed and rows_of(paths[0])[0]['percentile'] != ''


def reading(**settings):
    config = SimpleNamespace(label='', crop=False, background='', max_pixels=10**6)
    config.input_height = config.input_width = 16
    vars(config).update(settings)
    return config


def read(dcgan, source, limit=np.inf, **settings):
    return read_pictures(str(source), dcgan, reading(**settings), limit)


def test_held_out_scores_are_kept_for_the_weights_that_gave_them(vivid, tmp_path):
    write_images(tmp_path / 'new', count=3)
    config = reading(held_out=str(tmp_path / 'new'), out_dir=str(tmp_path), seed=1)
    dcgan, kept = vivid(), []
    for change in (1, 1, 1.5):
        for variable in dcgan.g_vars:
            dcgan.sess.run(variable.assign(change * variable))
        held_out_scores(dcgan, config, How(steps=1))
        kept.append(len([*tmp_path.glob('held_out-*.npz')]))
    assert kept == [1, 1, 2]


def test_rows_of_idx_files_have_their_numbers_and_classes(make_dcgan, tmp_path):
    dcgan = make_dcgan(y_dim=4, c_dim=1, output_height=8, output_width=8)
    images, labels = write_idx_set(tmp_path / 'rows')
    random = np.random.get_state()[1].copy()
    names, found, classes = read(dcgan, tmp_path / 'rows', 9)
    assert (np.random.get_state()[1] == random).all()
    rows = names.astype(int)
    assert len(rows) == 9 and (np.diff(rows) > 0).all()
    assert (found[..., 0] == images[rows]).all() and (classes == labels[rows]).all()


def test_pictures_in_folders_of_class_names_have_these_classes(make_dcgan, tmp_path):
    dcgan = make_dcgan(y_dim=12, out_dir=str(tmp_path))
    for folder in ('11', '3', 'other'):
        write_images(tmp_path / 'new' / folder, count=1)
    names, _, labels = read(dcgan, tmp_path / 'new')
    assert [*names] == ['11/000.png', '3/000.png', 'other/000.png']
    assert [*labels] == [11, 3, -1]
    assert [*read(dcgan, tmp_path / 'new', label='7')[2]] == [7, 7, 7]
    assert [*read(dcgan, tmp_path / 'new', label='7,8')[2]] == [-1, -1, -1]
    (tmp_path / 'classes.json').write_text(json.dumps(['3', 'caf\u00e9']))
    (tmp_path / 'new' / '11').rename(tmp_path / 'new' / 'cafe\u0301')  # as on a Mac
    names, _, labels = read(dcgan, tmp_path / 'new')
    assert {*zip(names, labels)} >= {('cafe\u0301/000.png', 1), ('3/000.png', 0)}


def test_files_that_are_no_pictures_are_left_out(make_dcgan, tmp_path, capsys):
    write_images(tmp_path / 'new', count=3)
    (tmp_path / 'new' / '001.png').write_text('no picture')
    dcgan = make_dcgan()
    names, images, _ = read(dcgan, tmp_path / 'new')
    assert [*names] == ['000.png', '002.png'] and len(images) == 2
    assert '[!] Image left out, 1 so far: ' in capsys.readouterr().out
    for name in ('002.png', '003.png'):
        (tmp_path / 'new' / name).write_text('no picture')
    for limit in (1, 2, 3):  # 000.png is chosen last
        with pytest.raises(UserError, match='not a readable image'):
            read(dcgan, tmp_path / 'new', limit)


def test_a_single_picture_is_read_whatever_its_name_and_neighbours(
    make_dcgan, tmp_path, capsys
):
    write_images(tmp_path / 'new' / 'deep', count=3)
    dcgan = make_dcgan()
    for name in ('a.png', 'a.PNG', '.a[b]*.png', 'a\nb~'):
        shutil.copy(tmp_path / 'new' / 'deep' / '000.png', tmp_path / 'new' / name)
        names, images, _ = read(dcgan, tmp_path / 'new' / name)
        assert [*names] == [name] and len(images) == 1
    assert 'subfolders' not in capsys.readouterr().out


def test_bad_input_is_one_line_and_leaves_nothing(workspace):
    (workspace / 'text.png').write_text('no picture')
    (workspace / 'empty').mkdir()
    Image.new('L', (8, 8), 255).save(workspace / 'small.png')
    Image.new('L', (16, 16)).save(workspace / 'black.png')
    before = sorted((workspace / 'out').rglob('*'))
    cats = ['--complete', 'data/cats', '--mask']
    for name, args, message in (
        ('cats', ['--invert', 'text.png'], 'text.png: not a readable image'),
        ('cats', ['--invert', 'gone'], '--invert gone: no such file or folder'),
        ('cats', ['--anomaly', 'empty'], "empty: no file matches '**/*'"),
        ('cats', ['--invert', 'data/set'], 'data/set: its images have 1 channel(s)'),
        ('cats', [*cats, 'small.png'], 'has 8x8 pixels, images of the model 16x16'),
        ('cats', [*cats, 'black.png'], 'black.png: is black; paint in white'),
        (
            'cats',
            [*cats, 'oval', '--invert', 'data/cats'],
            '--mask oval: no such file; ',
        ),
        (
            'cats',
            [*cats, 'oval', '--held_out', 'data/cats'],
            'give one of center, left',
        ),
        ('cats', [*cats, 'empty'], '--mask empty/000.png: no such file; paint it'),
        ('cats', ['--invert', 'data/cats', '--held_out', 'gone'], '--held_out gone'),
        (
            'cats',
            [*cats, 'left', '--lam', '1e39'],
            '--lam=1e39: 1e+39 is not a number in',
        ),
        ('dogs', ['--invert', 'data/cats'], 'dogs'),
    ):
        result = run_in_process('--out_name', name, *QUICK, *args, cwd=workspace)
        assert result.returncode == 1, args
        assert message in result.stderr and result.stderr.count('\n') == 1, args
    assert sorted((workspace / 'out').rglob('*')) == before


def test_a_checkpoint_without_d_is_inverted_by_pixels_alone(vivid):
    dcgan = vivid()
    with tf.Session(graph=dcgan.sess.graph) as sess:
        sess.run(tf.variables_initializer(tf.global_variables('generator/')))
        dcgan.sess = sess
        images = np.zeros((2, 16, 16, 3), np.uint8)
        assert len(invert(dcgan, images, how=How(steps=2)).z) == 2
        with pytest.raises(
            UserError, match='--invert_features, .*: this checkpoint has no discri'
        ):
            invert(dcgan, images, how=How(features=0.1))
