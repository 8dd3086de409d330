"""Samples, visualizations and exports of trained models, made by main.py."""

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
    printed_paths,
    run_code,
    run_in_process,
    write_idx_set,
    write_images,
)
from PIL import Image

TRAIN = ['--train', *SMALL, '--epoch', 1, '--z_dist', 'normal01', '--seed', 1]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with two trained runs.

    The run on `set` is conditional, with 4 classes; the run on `cats` is not.
    """
    workspace = tmp_path_factory.mktemp('workspace')
    write_idx_set(workspace / 'data' / 'set', count=24)
    write_images(workspace / 'data' / 'cats', count=24, size=(12, 12), ending='jpg')
    for dataset in ('set', 'cats'):
        args = ['--dataset', dataset, '--out_name', dataset, '--sample_freq', 1]
        result = run_in_process(*TRAIN, *args, cwd=workspace)
        assert result.returncode == 0, result.stderr
    return workspace


def run_main(workspace, dataset, *args):
    """Run main.py on a trained model; returns the paths that it printed."""
    return printed_paths(
        workspace, run_in_process('--dataset', dataset, *args, cwd=workspace)
    )


def test_generate_test_images_samples_are_drawn_whatever_the_batch_size(workspace):
    args = ['--generate_test_images', 11, '--separate_images', '--npz']
    result = run_in_process('--dataset', 'cats', *args, cwd=workspace)
    grid_path, folder, npz = printed_paths(workspace, result)
    assert 'Newest run of cats: ./out/cats, iteration 3\n' in result.stdout
    assert re.fullmatch(r'.*/out/cats/samples/test_\d{14}\.png', grid_path)
    assert Image.open(grid_path).size == (16 * 4, 16 * 4)
    names = [f'{i:05d}.png' for i in range(11)]
    assert sorted(os.listdir(folder)) == names
    arrays = np.load(npz)
    assert arrays['images'].shape == (11, 16, 16, 3)
    assert arrays['images'].dtype == np.uint8
    assert arrays['z'].shape == (11, 6) and abs(arrays['z']).max() > 1  # normal01
    assert (arrays['labels'] == -1).all()
    images = [np.asarray(Image.open(os.path.join(folder, name))) for name in names]
    assert (np.stack(images) == arrays['images']).all()


def test_many_samples_are_the_same_and_the_grid_has_few_of_them(workspace):
    args = ['--npz', '--seed', 4, '--label', '1,3', '--generate_test_images']
    few = np.load(run_main(workspace, 'set', *args, 9)[1])
    result = run_in_process(
        *('--dataset', 'set', *args, 600, '--sheet_images', 30), cwd=workspace
    )
    grid_path, npz = printed_paths(workspace, result)
    assert 'It shows the first 30 of 600 samples; --sheet_images N' in result.stdout
    assert Image.open(grid_path).size == (16 * 6, 16 * 6)
    many = np.load(npz)
    for name in ('images', 'labels', 'z'):
        assert len(many[name]) == 600 and (many[name][:9] == few[name]).all()
    assert len(np.unique(many['z'], axis=0)) == 600


def test_memory_does_not_grow_with_the_number_of_samples(workspace):
    code = (
        'import resource, sys, main\n'
        'try:\n    main.run(sys.argv)\n'
        'except SystemExit as end:\n    assert not end.code, end.code\n'
        'print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    )
    peaks = []
    for count in (2000, 40000):  # of 768 bytes each, and 48 bytes of z
        args = ['--dataset', 'cats', '--npz', '--generate_test_images', count]
        result = run_code(code, *args, cwd=workspace)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 15000  # kB, half of what the samples take


def test_all_classes_are_drawn_equally_often(workspace):
    args = ['--generate_test_images', 20, '--npz', '--separate_images']
    _, folder, npz = run_main(workspace, 'set', *args)
    assert np.load(npz)['labels'].tolist() == [0, 1, 2, 3] * 5
    assert '00006_2.png' in os.listdir(folder)


def test_samples_of_a_file_are_drawn_again(workspace):
    args = ['--npz', '--generate_test_images', 11, '--label', '3,1', '--seed', 5]
    grid_path, npz = run_main(workspace, 'set', *args)
    square, first = np.asarray(Image.open(grid_path)), dict(np.load(npz))
    again = ['--z_file', npz, '--npz', '--sheet_columns', 4]
    again_path, again_npz = run_main(workspace, 'set', *again)
    wide, second = np.asarray(Image.open(again_path)), np.load(again_npz)
    assert all((first[name] == second[name]).all() for name in first)
    assert first['labels'][:3].tolist() == [3, 1, 3]
    assert square.shape == (16 * 4, 16 * 4) and wide.shape == (16 * 3, 16 * 4)
    assert (square[: 16 * 3] == wide).all()


@pytest.mark.parametrize(
    'arrays, message',
    [
        ({'z': np.zeros((2, 5))}, 'needs [n, 6]'),
        ({'z': np.full((2, 6), np.nan)}, 'finite'),
        ({'z': np.zeros((2, 6)), 'labels': np.array([0, 4])}, 'has class 4'),
        ({'z': np.zeros((2, 6)), 'labels': np.array([0])}, 'a label for each z'),
    ],
)
def test_files_of_other_samples_are_refused(workspace, tmp_path, arrays, message):
    np.savez(tmp_path / 'z.npz', **arrays)
    args = ['--dataset', 'set', '--z_file', tmp_path / 'z.npz']
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith(f'main.py: {tmp_path}/z.npz: ')


def test_seed_fixes_the_samples_of_the_chosen_classes(workspace):
    args = ['--npz', '--label', '3,1,', '--generate_test_images', 9, '--seed']
    first, same_seed, other_seed = (
        np.load(run_main(workspace, 'set', *args, seed)[1]) for seed in (4, 4, 5)
    )
    assert first['labels'].tolist() == [3, 1, 3, 1, 3, 1, 3, 1, 3]
    assert (first['images'] == same_seed['images']).all()
    assert (first['z'] == same_seed['z']).all()
    assert (first['images'] != other_seed['images']).any()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['set', '--label', '4'], '--label 4: the classes of this model are 0 to 3'),
        (['cats', '--label', '1'], '--label 1: this model has no classes'),
        (['cats', '--generate_test_images', 0], '--generate_test_images=0'),
        (['cats', '--visualize', '--visualize_option', 'classes'], 'has no classes'),
        (
            ['cats', '--visualize', '--visualize_option', '7', '--arithmetic', '1-2'],
            "--arithmetic '1-2': must have the form A-B+C, such as 0,1,2-3,4,5+6,7,8",
        ),
        (
            ['cats', '--visualize', '--visualize_option', '7', '--z_file', 'no.npz'],
            'no.npz: not an .npz file of samples',
        ),
        (
            ['cats', '--visualize_option', '7', '--arithmetic', '99999999999-1+2'],
            "--arithmetic '99999999999-1+2': must have the form",
        ),
        (
            ['cats', '--sample_dir', 'none', '--gif'],
            'none: no image grids (train_*.png) for --gif',
        ),
        (['cats', '--visualize_option', 'gifs'], 'interpolate|classes|arithmetic'),
        (['cats', '--resume_step', 2], '--resume_step takes one of [3]'),
    ],
)
def test_invalid_flags_end_in_an_error_of_one_line(args, message, workspace):
    result = run_in_process('--dataset', *args, cwd=workspace)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1


def visualize(workspace, dataset, option, *args):
    """Run main.py --visualize; returns the path of the one grid and its pixels."""
    args = ['--visualize', '--visualize_option', option, *args]
    (path,) = run_main(workspace, dataset, *args)
    return path, np.asarray(Image.open(path)).astype(int)


def cell(grid, row, column):
    """One 16x16 image of a grid."""
    return grid[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]


def test_interpolation_rows_go_from_one_z_to_another(workspace):
    path, grid = visualize(workspace, 'cats', 'interpolate')
    assert re.fullmatch(r'.*/samples/test_interpolate_\d{14}\.png', path)
    assert grid.shape == (16 * 8, 16 * 10, 3)
    for row in range(8):
        images = [cell(grid, row, column) for column in range(10)]
        from_end_to_end = abs(images[0] - images[9]).max()
        steps = [abs(images[i] - images[i + 1]).max() for i in range(9)]
        assert 0 < max(steps) < from_end_to_end


def test_class_grid_has_a_row_per_z_and_a_column_per_class(workspace):
    path, grid = visualize(workspace, 'set', 'classes')
    assert re.fullmatch(r'.*/samples/test_classes_\d{14}\.png', path)
    assert grid.shape == (16 * 8, 16 * 4)
    _, two_classes = visualize(workspace, 'set', '6', '--label', '2,0')
    assert two_classes.shape == (16 * 8, 16 * 2)


def test_label_chooses_the_class_of_a_random_grid(workspace):
    args = ['--visualize_option', 'random', '--seed', 3, '--label']
    grids = [
        np.asarray(Image.open(run_main(workspace, 'set', *args, n)[0])) for n in (1, 2)
    ]
    assert grids[0].shape == grids[1].shape and (grids[0] != grids[1]).any()


def test_arithmetic_adds_mean_z_of_seeds_or_of_saved_samples(workspace):
    option = ['arithmetic', '--arithmetic', '0,1 - 0,1 + 2']
    _, by_seed = visualize(workspace, 'cats', *option)
    assert by_seed.shape == (16 * 4, 16 * 9, 3)
    # A - A + C is C: the result, first in row 3, equals the mean of C, last in row 2
    assert abs(cell(by_seed, 2, 1) - cell(by_seed, 3, 0)).max() <= 1
    args = ['--npz', '--generate_test_images', 1, '--seed', 2]
    _, npz = run_main(workspace, 'cats', *args)
    option = ['arithmetic', '--arithmetic', '0-0+0', '--z_file', npz]
    _, by_index = visualize(workspace, 'cats', *option)
    assert np.allclose(np.load(npz)['z'][0], z_of_seed(2), atol=1e-6)
    assert abs(cell(by_index, 0, 0) - cell(by_index, 3, 0)).max() <= 1


def z_of_seed(seed):
    """The first z that main.py draws with a seed, from normal01."""
    return np.random.RandomState(seed).standard_normal(6)


def test_training_grids_become_an_animation(workspace):
    (path,) = run_main(workspace, 'set', '--gif')
    assert path.endswith('/out/set/samples/progress.gif')
    with Image.open(path) as gif:
        assert gif.n_frames == 4 and gif.size == (16 * 3, 16 * 3)


# compares the exports in a process that cannot import this project
COMPARE_EXPORTS = """
import sys
import numpy as np
import tensorflow as tf

frozen, saved, conditional, npz = sys.argv[1:]
samples = np.load(npz)
inputs = {'z': samples['z']}
if conditional == 'True':
    inputs['y'] = np.eye(4, dtype=np.float32)[samples['labels']]

model = tf.saved_model.load(saved)
assert list(model.signatures) == ['serving_default']
infer = model.signatures['serving_default']
inputs = {name: tf.constant(array) for name, array in inputs.items()}
with tf.GradientTape() as tape:
    tape.watch(inputs['z'])
    images = infer(**inputs)['images']
z_gradient = tape.gradient(images, inputs['z']).numpy()
inputs = {name: array.numpy() for name, array in inputs.items()}
images = images.numpy()
assert images.min() >= 0 and images.max() <= 1
assert (np.abs(images * 255 - samples['images']) <= 0.51).all()

graph_def = tf.compat.v1.GraphDef.FromString(open(frozen, 'rb').read())
name = 'generator_1/Sigmoid:0' if 'y' in inputs else 'generator_1/Tanh:0'
with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
    tf.import_graph_def(graph_def, name='')
    feed = {f'{name}:0': array for name, array in inputs.items()}
    output, z = map(sess.graph.get_tensor_by_name, [name, 'z:0'])
    fetches = [output, tf.compat.v1.gradients(output, z)]
    frozen_images, (gradient,) = sess.run(fetches, feed)
if 'y' not in inputs:  # tanh: scale from [-1, 1] to [0, 1]
    frozen_images, gradient = (frozen_images + 1) / 2, gradient / 2
assert np.allclose(frozen_images, images, atol=1e-5)
assert np.allclose(gradient, z_gradient, rtol=1e-3, atol=1e-5) and z_gradient.any()
assert not {'model', 'ops', 'utils', 'main'} & set(sys.modules)
print('the same', len(images))
"""


@pytest.mark.parametrize('dataset', ['set', 'cats'])
def test_exports_draw_the_same_samples_without_this_code(dataset, workspace, tmp_path):
    args = ['--export', '--freeze', '--saved_model', '--npz', '--seed', 2]
    args += ['--generate_test_images', 11]  # not a multiple of the batch size
    export, frozen, saved, _, npz = run_main(workspace, dataset, *args)
    assert os.path.exists(f'{export}/model.b8-3.index')
    assert os.path.basename(export) == 'export_b8' and saved.endswith('/saved_model/3')
    frozen = f'{frozen}/model.b8-000003_frz.pb'
    result = subprocess.run(
        [
            sys.executable,
            '-c',
            COMPARE_EXPORTS,
            frozen,
            saved,
            str(dataset == 'set'),
            npz,
        ],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert result.stdout == 'the same 11\n', result.stderr
    assert str(ROOT) not in result.stderr
