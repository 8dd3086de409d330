"""Samples, visualizations and exports of trained models, made by main.py."""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, pixels, printed_paths, run_code, run_in_process
from onnxruntime import InferenceSession
from PIL import Image

from dcgan.data.image_grids import make_gif, save_images
from dcgan.sampling.onnx_tflite import onnx_bytes
from dcgan.sampling.samples import draw, make_progress_gif, parse_labels, save_samples
from dcgan.sampling.visualize import (
    draw_arithmetic,
    draw_classes,
    draw_interpolations,
    visualize,
)
from dcgan.util.errors import UserError


def run_main(workspace, name, *args):
    """Run main.py on a trained model; returns the paths that it printed."""
    result = run_in_process('--out_name', name, *args, cwd=workspace)
    return printed_paths(workspace, result)


def z_of_seed(seed, *shape):
    """The first z that main.py draws with a seed."""
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def test_samples_are_a_grid_and_files_and_arrays(workspace):
    args = ['--generate_test_images', 11, '--separate_images', '--npz', '--seed', 4]
    result = run_in_process('--dataset', 'cats', *args, cwd=workspace)
    grid_path, folder, npz = printed_paths(workspace, result)
    assert 'Newest run of cats: ./out/cats, iteration 3\n' in result.stdout
    assert re.fullmatch(r'.*/out/cats/samples/test_\d{14}\.png', grid_path)
    assert pixels(grid_path).shape == (16 * 4, 16 * 4, 3)
    names = [f'{i:05d}.png' for i in range(11)]
    assert sorted(os.listdir(folder)) == names
    arrays = np.load(npz)
    assert arrays['images'].shape == (11, 16, 16, 3)
    assert arrays['images'].dtype == np.uint8
    assert (arrays['z'] == z_of_seed(4, 11, 6).astype(np.float32)).all()
    assert (arrays['labels'] == -1).all()
    images = [pixels(os.path.join(folder, name)) for name in names]
    assert (np.stack(images) == arrays['images']).all()


def test_many_samples_are_the_same_and_the_grid_has_few_of_them(workspace):
    args = ['--npz', '--seed', 4, '--label', '3,1,', '--generate_test_images']
    few = np.load(run_main(workspace, 'set', *args, 9)[1])
    args += [300, '--sheet_images', 30, '--out_name', 'set', '--separate_images']
    result = run_in_process(*args, cwd=workspace)
    grid_path, folder, npz = printed_paths(workspace, result)
    assert os.path.exists(f'{folder}/00299_1.png')
    assert 'It shows the first 30 of 300 samples; --sheet_images N' in result.stdout
    assert pixels(grid_path).shape == (16 * 6, 16 * 6)
    many = np.load(npz)
    for name in ('images', 'labels', 'z'):
        assert len(many[name]) == 300 and (many[name][:9] == few[name]).all()
    assert few['labels'].tolist() == [3, 1, 3, 1, 3, 1, 3, 1, 3]
    assert len(np.unique(many['z'], axis=0)) == 300


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(workspace):
    code = (
        'import contextlib, resource, sys, main\n'
        'for count in "2000", "2000", "40000":  # of 816 bytes, with z\n'
        '    with contextlib.suppress(SystemExit):\n'
        '        main.run([*sys.argv, count])\n'
        '    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    )
    args = ['--dataset', 'cats', '--npz', '--generate_test_images']
    result = run_code(code, *args, cwd=workspace)
    assert result.stdout.count('.npz\n') == 3, result.stderr
    peaks = [int(n) for n in re.findall(r'peak (\d+)', result.stdout)]
    assert peaks[2] - peaks[1] < 15000  # kB, half of what the samples take


def test_samples_of_a_file_are_drawn_again(workspace):
    args = ['--npz', '--generate_test_images', 11, '--separate_images']
    grid_path, folder, npz = run_main(workspace, 'set', *args)
    assert {'00004_0.png', '00006_2.png'} <= {*os.listdir(folder)}
    square, first = pixels(grid_path), dict(np.load(npz))
    assert first['labels'].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    again = ['--z_file', npz, '--npz', '--sheet_columns', 4]
    again_path, again_npz = run_main(workspace, 'set', *again)
    second = np.load(again_npz)
    assert all((first[name] == second[name]).all() for name in first)
    wide = pixels(again_path)
    assert square.shape == (16 * 4, 16 * 4) and wide.shape == (16 * 3, 16 * 4)
    assert (square[: 16 * 3] == wide).all()


def test_files_of_other_samples_are_refused(tmp_path):
    path, z = str(tmp_path / 'z.npz'), np.zeros((2, 6))
    config = SimpleNamespace(label='', z_file=path)
    for arrays, message in (
        ({'z': np.zeros((2, 5))}, r'of shape \[n, 6\]'),
        ({'z': z + np.nan}, 'finite'),
        ({'z': z, 'labels': np.array([0, 4])}, 'has class 4'),
        ({'z': z, 'labels': np.array([0])}, 'a label for each z'),
    ):
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=f'{path}: .*{message}'):
            save_samples(None, SimpleNamespace(y_dim=4, z_dim=6), config, '')


def test_labels_are_classes_of_the_model():
    assert parse_labels(' 3,1 ,', 4).tolist() == [3, 1]
    assert parse_labels('', 4).tolist() == [0, 1, 2, 3]
    assert parse_labels('', None).tolist() == [-1]
    with pytest.raises(UserError, match='4: the classes of this model are 0 to 3'):
        parse_labels('4', 4)
    with pytest.raises(UserError, match='1: this model has no classes'):
        parse_labels('1', None)


def test_options_that_cannot_be_drawn_are_reported(tmp_path):
    path = str(tmp_path / 'z.npz')
    np.savez(path, z=np.zeros((1, 6)))
    model = SimpleNamespace(y_dim=None, z_dim=6, data=None)
    for option, arithmetic, message in (
        ('gifs', '', "'gifs' is unknown; choose 0 to 8 or one of random, sweep"),
        ('9', '', "'9' is unknown"),
        ('8', '', 'filters: build DCGAN with data_dir'),
        ('6', '', 'classes: this model has no classes'),
        ('arithmetic', '1-2', "'1-2': must have the form A-B\\+C, such as 0,1,2-3"),
        ('7', '99999999999-1+2', "'99999999999-1\\+2': must have the form"),
        ('7', '1-0+1', 'z.npz: has no z with index 1; .* indices 0 to 0'),
    ):
        config = SimpleNamespace(label='', arithmetic=arithmetic, z_file=path)
        with pytest.raises(UserError, match=message):
            visualize(None, model, config, option)


def test_grids_are_written_with_the_time(workspace):
    for option, name, rows, columns in (
        ('interpolate', 'interpolate', 8, 10),
        ('6', 'classes', 8, 2),
        ('arithmetic', 'arithmetic', 4, 9),
    ):
        args = ['--visualize', '--visualize_option', option, '--label', '2,0']
        (path,) = run_main(workspace, 'set', *args)
        assert re.fullmatch(rf'.*/out/set/samples/test_{name}_\d{{14}}\.png', path)
        assert pixels(path).shape == (16 * rows, 16 * columns)


@pytest.fixture
def config():
    np.random.seed(3)
    return SimpleNamespace(z_dist='uniform_signed', z_file='', arithmetic='0,1 - 2 + 3')


def test_sweeps_draw_known_z_of_the_class(sess, make_dcgan, tmp_path):
    dcgan, config = make_dcgan(y_dim=4), SimpleNamespace(label='2', batch_size=6)
    grid, gif = str(tmp_path / 'grid.png'), str(tmp_path / 'animation.gif')
    for option, low, high in ('random', -0.5, 0.5), ('sweep', -1, 1), ('gif', 0, 0):
        np.random.seed(3)
        visualize(sess, dcgan, config, option, str(tmp_path / option))
        z = np.random.RandomState(3).uniform(low, high, (6, 5))
        if option != 'random':
            z[:, 0] = np.arange(6) / 6
        images = draw(sess, dcgan, z, np.full(6, 2))
        save_images(images, (3, 3), grid)
        make_gif(images * 255, gif, true_image=True)
        expected = Path(gif if option == 'gif' else grid).read_bytes()
        assert expected == min((tmp_path / option).iterdir()).read_bytes()


def test_rows_go_from_one_z_to_another_and_columns_are_classes(
    sess, make_dcgan, config
):
    dcgan = make_dcgan(y_dim=4)
    images, columns = draw_interpolations(sess, dcgan, config, np.array([2, 0]))
    first, last = z_of_seed(3, 2, 8, 5)
    z = [first + (last - first) * step / 9 for step in range(10)]
    z = np.stack(z, axis=1).reshape(80, 5)
    expected = draw(sess, dcgan, z, np.resize([2, 0], 8).repeat(10))
    assert columns == 10 and abs(images - expected).max() < 1e-5
    np.random.seed(3)
    images, columns = draw_classes(sess, dcgan, config, np.array([2, 0, 1]))
    z, labels = z_of_seed(3, 8, 5).repeat(3, axis=0), np.resize([2, 0, 1], 24)
    expected = draw(sess, dcgan, z, labels)
    assert columns == 3 and abs(images - expected).max() < 1e-5


def test_arithmetic_adds_mean_z_of_seeds_or_of_saved_samples(
    sess, make_dcgan, config, tmp_path
):
    dcgan = make_dcgan()
    images, columns = draw_arithmetic(sess, dcgan, config, np.array([-1]))
    terms = [np.stack([z_of_seed(n, 5) for n in seeds]) for seeds in ([0, 1], [2], [3])]
    rows = [np.vstack([z, z.mean(axis=0)]) for z in terms]
    rng = np.random.RandomState(3)  # the last seed
    rng.uniform(-1, 1, 5)
    result = rows[0][-1] - rows[1][-1] + rows[2][-1]
    rows.append(np.vstack([result, result + rng.uniform(-0.25, 0.25, (8, 5))]))
    cells = images.reshape(4, columns, 16, 16, 3)
    for row_of_cells, z in zip(cells, rows):
        shown = draw(sess, dcgan, z, as_bytes=True)
        assert (row_of_cells[: len(z)] == shown).all()
        assert (row_of_cells[len(z) :] == 0).all()
    config.z_file = str(tmp_path / 'z.npz')
    np.savez(config.z_file, z=np.stack([z_of_seed(n, 5) for n in (2, 3, 0, 1)]))
    config.arithmetic = '2,3-0+1'
    by_index, _ = draw_arithmetic(sess, dcgan, config, np.array([-1]))
    assert (by_index[: 3 * columns + 1] == images[: 3 * columns + 1]).all()


def test_training_grids_become_an_animation(workspace, tmp_path):
    (path,) = run_main(workspace, 'set', '--gif')
    assert path.endswith('/out/set/samples/progress.gif')
    with Image.open(path) as gif:
        assert gif.n_frames == 4 and gif.size == (16 * 3, 16 * 3)
    with pytest.raises(UserError, match=r'no image grids \(train_\*.png\) for --gif'):
        make_progress_gif(str(tmp_path))


@pytest.mark.parametrize('name', ['set', 'cats'])
def test_a_saved_model_draws_the_same_samples_as_the_page_says(name, workspace):
    args = ['--saved_model', '--npz', '--seed', 2, '--generate_test_images', 11]
    saved, _, npz = run_main(workspace, name, *args)
    arrays, page = np.load(npz), (ROOT / 'docs' / 'exports.md').read_text()
    feed = {'z:0': arrays['z']}
    if name == 'set':
        feed['y:0'] = np.eye(4)[arrays['labels']]
    with tf.Graph().as_default(), tf.Session() as sess:
        signatures = tf.saved_model.load(sess, ['serve'], saved).signature_def
        signature = signatures['serving_default']
        images = sess.run(signature.outputs['images'].name, feed)
        # TensorFlow can differentiate all of its ops
        assert '_gradient_op_type' not in str(sess.graph_def)
    assert images.min() >= 0 and (abs(images * 255 - arrays['images']) <= 0.51).all()
    request = re.search(r"'({.*?)'", page, re.DOTALL)[1].replace(', ...', '')
    assert {*signature.inputs} <= {*json.loads(request)['instances'][0]}
    rows = dict(re.findall(r'put `(\w+)`.* \| DT_FLOAT \| \[any, (.*)\]', page))
    shapes = {'z_dim': [6], 'classes': [4], 'h, w, channels': [*images.shape[1:]]}
    for end, tensor in {**signature.inputs, **signature.outputs}.items():
        assert [d.size for d in tensor.tensor_shape.dim] == [-1, *shapes[rows[end]]]
        assert tensor.dtype == tf.float32
    assert f'`{signature.method_name}`' in page


DRAW = """
import json, sys, zipfile
import numpy as np, onnxruntime
from ai_edge_litert.interpreter import Interpreter
onnx, tflite, _, npz = sys.argv[1:]
arrays, session = np.load(npz), onnxruntime.InferenceSession(onnx)
names, draw = ['images', 'floats'], Interpreter(tflite).get_signature_runner()
for n in 1, 11, 4:
    feed = {'z': arrays['z'][:n], 'label': arrays['labels'][:n].astype(np.int32)}
    feed = {end.name: feed[end.name] for end in session.get_inputs()}
    for images, floats in session.run(names, feed), map(draw(**feed).get, names):
        shown = arrays['images'][:n].astype(int)
        assert images.dtype == np.uint8 and abs(images - shown).max() <= 1
        assert floats.dtype == np.float32 and abs(floats * 255 - shown).max() < 0.51
told = json.loads(zipfile.ZipFile(tflite).read('metadata.json'))
print(told, *map(session.get_modelmeta().custom_metadata_map.get, sorted(told)))
assert 'tensorflow' not in sys.modules
"""


@pytest.mark.parametrize('name, classes', [('set', [*'0123']), ('cats', [])])
def test_exports_draw_the_same_without_tensorflow(name, classes, workspace):
    args = ['--export', '--freeze', '--onnx', '--tflite', '--npz', '--seed', 2]
    export, frozen, *files = run_main(workspace, name, *args)
    assert export.endswith('/export_b8') and 'model.b8-3.index' in os.listdir(export)
    assert os.path.exists(f'{frozen}/model.b8-000003_frz.pb')
    told = {'dataset': name, 'z_dim': 6, 'z_dist': 'uniform_signed'}
    told |= {'classes': classes, 'range': [0, 1], 'iteration': 3}
    texts = json.dumps(classes), name, '3', '[0, 1]', '6', 'uniform_signed'
    result = run_code(DRAW, *files, cwd=workspace)
    assert result.stdout == f'{told} {" ".join(texts)}\n', result.stderr


def test_onnx_is_float16_where_samples_stay(sess, make_dcgan, config, capsys):
    dcgan, files, z = make_dcgan(), [], z_of_seed(0, 6, 5).astype(np.float32)
    for scale in 1, 9:
        sess.run([v.assign(v * scale) for v in dcgan.g_vars])
        files.append(onnx_bytes(dcgan, config, 1))
    assert re.findall(r'float(\d+) weights', capsys.readouterr().out) == ['16', '32']
    assert len(files[0]) < 0.8 * len(files[1])
    session = InferenceSession(files[1])
    assert [i.shape for i in session.get_inputs()] == [['B', 5]]
    (images,) = session.run(['images'], {'z': z})
    shown = draw(sess, dcgan, z, as_bytes=True).astype(int)
    assert abs(images - shown).max() <= 1 and np.ptp(shown) > 100


def test_a_missing_package_is_asked_for_before_all_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2onnx', None)
    result = run_in_process('--out_name', 'none', '--onnx', cwd=tmp_path)
    advice = '; pip install tf2onnx, see docs/exports.md\n'
    assert re.fullmatch(f'main.py: --onnx: .*{advice}', result.stderr)
