"""What a trained model gives: samples, visualizations, exports; by the command line."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import (
    ROOT,
    SMALL,
    clean_environment,
    run,
    run_here,
    write_idx_set,
    write_pictures,
)
from PIL import Image

TRAIN = ['--train', *SMALL, '--epoch', 1, '--z_dist', 'normal01', '--seed', 1]


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A user's folder with a conditional run, on `set`, and a plain one, on `cats`."""
    home = tmp_path_factory.mktemp('home')
    write_idx_set(home / 'data' / 'set', count=24)
    write_pictures(home / 'data' / 'cats', count=24, size=(12, 12), ending='jpg')
    for dataset in ('set', 'cats'):
        args = ['--dataset', dataset, '--out_name', dataset, '--sample_freq', 1]
        result = run('main.py', *TRAIN, *args, cwd=home)
        assert result.returncode == 0, result.stderr
    return home


def use(home, dataset, *args):
    """Run main.py on a trained model; the paths that it printed, and all its text."""
    return told(home, run_here('--dataset', dataset, *args, cwd=home))


def told(home, result):
    """The paths that a run of main.py printed, and all its text."""
    assert result.returncode == 0 and result.stderr == '', result.stderr
    paths = re.findall(r'^ \[\*\] (\./out/[^:,\n]+)', result.stdout, re.MULTILINE)
    return [str(home / path) for path in paths], result.stdout


def test_exactly_so_many_samples_are_drawn_whatever_the_batch(home):
    args = ['--generate_test_images', 11, '--separate_images', '--npz']
    result = run('main.py', '--dataset', 'cats', *args, cwd=home)
    (sheet, folder, npz), text = told(home, result)
    assert 'Newest run of cats: ./out/cats, iteration 3\n' in text
    assert re.fullmatch(r'.*/out/cats/samples/test_\d{14}\.png', sheet)
    assert Image.open(sheet).size == (16 * 4, 16 * 4)
    names = [f'{i:05d}.png' for i in range(11)]
    assert sorted(os.listdir(folder)) == names
    drawn = np.load(npz)
    assert (
        drawn['images'].shape == (11, 16, 16, 3) and drawn['images'].dtype == np.uint8
    )
    assert drawn['z'].shape == (11, 6) and abs(drawn['z']).max() > 1  # normal01
    assert (drawn['labels'] == -1).all()
    pictures = [np.asarray(Image.open(os.path.join(folder, name))) for name in names]
    assert (np.stack(pictures) == drawn['images']).all()


def test_classes_are_drawn_in_equal_parts(home):
    args = ['--generate_test_images', 20, '--npz', '--separate_images']
    (_, folder, npz), _ = use(home, 'set', *args)
    assert np.load(npz)['labels'].tolist() == [0, 1, 2, 3] * 5
    assert '00006_2.png' in os.listdir(folder)


def test_a_seed_fixes_the_samples_of_the_classes_asked_for(home):
    args = ['--npz', '--label', '3,1,', '--generate_test_images', 9, '--seed']
    drawn = [np.load(use(home, 'set', *args, seed)[0][1]) for seed in (4, 4, 5)]
    assert drawn[0]['labels'].tolist() == [3, 1, 3, 1, 3, 1, 3, 1, 3]
    assert (drawn[0]['images'] == drawn[1]['images']).all()
    assert (drawn[0]['z'] == drawn[1]['z']).all()
    assert (drawn[0]['images'] != drawn[2]['images']).any()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['set', '--label', '4'], '--label 4: the classes of this model are 0 to 3'),
        (['cats', '--label', '1'], '--label 1: this model has no classes'),
        (['cats', '--generate_test_images', 0], '--generate_test_images=0'),
        (['cats', '--visualize', '--visualize_option', 'classes'], 'has no classes'),
        (
            ['cats', '--visualize', '--visualize_option', '7', '--arithmetic', '1-2'],
            "--arithmetic '1-2': has to be as 0,1,2-3,4,5+6,7,8",
        ),
        (
            ['cats', '--visualize', '--visualize_option', '7', '--z_file', 'no.npz'],
            'no.npz: not an .npz of samples',
        ),
        (
            ['cats', '--visualize_option', '7', '--arithmetic', '99999999999-1+2'],
            "--arithmetic '99999999999-1+2': has to be",
        ),
        (['cats', '--sample_dir', 'none', '--gif'], 'none: has no train_*.png'),
        (['cats', '--visualize_option', 'gifs'], 'interpolate|classes|arithmetic'),
        (['cats', '--resume_step', 2], '--resume_step takes one of [3]'),
    ],
)
def test_what_cannot_be_drawn_ends_in_a_line(args, message, home):
    result = run_here('--dataset', *args, cwd=home)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1


def visualize(home, dataset, option, *args):
    (path,), _ = use(home, dataset, '--visualize', '--visualize_option', option, *args)
    return path, np.asarray(Image.open(path)).astype(int)


def cell(sheet, row, column):
    return sheet[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]


def test_interpolations_go_from_one_z_to_another_in_rows(home):
    path, sheet = visualize(home, 'cats', 'interpolate')
    assert re.fullmatch(r'.*/samples/test_interpolate_\d{14}\.png', path)
    assert sheet.shape == (16 * 8, 16 * 10, 3)
    for row in range(8):
        ends = abs(cell(sheet, row, 0) - cell(sheet, row, 9)).max()
        steps = [
            abs(cell(sheet, row, i) - cell(sheet, row, i + 1)).max() for i in range(9)
        ]
        assert 0 < max(steps) < ends


def test_a_sheet_of_classes_has_a_row_for_each_z_and_a_column_for_each_class(home):
    path, sheet = visualize(home, 'set', 'classes')
    assert re.fullmatch(r'.*/samples/test_classes_\d{14}\.png', path)
    assert sheet.shape == (16 * 8, 16 * 4)
    _, chosen = visualize(home, 'set', '6', '--label', '2,0')
    assert chosen.shape == (16 * 8, 16 * 2)


def test_a_label_chooses_the_class_of_a_sweep(home):
    args = ['--visualize_option', 'random', '--seed', 3, '--label']
    sheets = [np.asarray(Image.open(use(home, 'set', *args, n)[0][0])) for n in (1, 2)]
    assert sheets[0].shape == sheets[1].shape and (sheets[0] != sheets[1]).any()


def test_arithmetic_adds_means_of_seeds_or_of_earlier_samples(home):
    option = ['arithmetic', '--arithmetic', '0,1 - 0,1 + 2']
    _, by_seed = visualize(home, 'cats', *option)
    assert by_seed.shape == (16 * 4, 16 * 9, 3)
    # A less A leaves C, last in its own row, and first in that of the results
    assert abs(cell(by_seed, 2, 1) - cell(by_seed, 3, 0)).max() <= 1
    args = ['--npz', '--generate_test_images', 1, '--seed', 2]
    (_, npz), _ = use(home, 'cats', *args)
    option = ['arithmetic', '--arithmetic', '0-0+0', '--z_file', npz]
    _, by_index = visualize(home, 'cats', *option)
    assert np.allclose(np.load(npz)['z'][0], z_of_seed(2), atol=1e-6)
    assert abs(cell(by_index, 0, 0) - cell(by_index, 3, 0)).max() <= 1


def z_of_seed(seed):
    return np.random.RandomState(seed).standard_normal(6)


def test_the_sheets_of_a_run_become_an_animation(home):
    (path,), _ = use(home, 'set', '--gif')
    assert path.endswith('/out/set/samples/progress.gif')
    with Image.open(path) as gif:
        assert gif.n_frames == 3 and gif.size == (16 * 3, 16 * 3)


READER = """
import sys
import numpy as np
import tensorflow as tf

frozen, saved, conditional, npz = sys.argv[1:]
drawn = np.load(npz)
inputs = {'z': drawn['z']}
if conditional == 'True':
    inputs['y'] = np.eye(4, dtype=np.float32)[drawn['labels']]

model = tf.saved_model.load(saved)
assert list(model.signatures) == ['serving_default']
infer = model.signatures['serving_default']
inputs = {name: tf.constant(array) for name, array in inputs.items()}
with tf.GradientTape() as tape:
    tape.watch(inputs['z'])
    images = infer(**inputs)['images']
by_z = tape.gradient(images, inputs['z']).numpy()
inputs = {name: array.numpy() for name, array in inputs.items()}
images = images.numpy()
assert images.min() >= 0 and images.max() <= 1
assert (np.abs(images * 255 - drawn['images']) <= 0.51).all()

graph_def = tf.compat.v1.GraphDef.FromString(open(frozen, 'rb').read())
node = 'generator_1/Sigmoid:0' if 'y' in inputs else 'generator_1/Tanh:0'
with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
    tf.import_graph_def(graph_def, name='')
    feed = {f'{name}:0': array for name, array in inputs.items()}
    node, z = map(sess.graph.get_tensor_by_name, [node, 'z:0'])
    frozen, (gradient,) = sess.run([node, tf.compat.v1.gradients(node, z)], feed)
if 'y' not in inputs:  # in [-1, 1]
    frozen, gradient = (frozen + 1) / 2, gradient / 2
assert np.allclose(frozen, images, atol=1e-5)
assert np.allclose(gradient, by_z, rtol=1e-3, atol=1e-5) and by_z.any()
assert not {'model', 'ops', 'utils', 'main'} & set(sys.modules)
print('the same', len(images))
"""


@pytest.mark.parametrize('dataset', ['set', 'cats'])
def test_what_is_exported_draws_the_same_without_this_code(dataset, home, tmp_path):
    args = ['--export', '--freeze', '--saved_model', '--npz', '--seed', 2]
    args += ['--generate_test_images', 11]  # no multiple of the batch
    (export, frozen, saved, _, npz), _ = use(home, dataset, *args)
    assert os.path.exists(f'{export}/model.b8-3.index')
    assert os.path.basename(export) == 'export_b8' and saved.endswith('/saved_model/3')
    frozen = f'{frozen}/model.b8-000003_frz.pb'
    result = subprocess.run(
        [sys.executable, '-c', READER, frozen, saved, str(dataset == 'set'), npz],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert result.stdout == 'the same 11\n', result.stderr
    assert str(ROOT) not in result.stderr
