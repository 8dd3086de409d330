"""--evaluate and --encode on the command line, and the networks that give features."""

import contextlib
import json
import re
import shutil
import tarfile
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, run_in_process, use, write_idx_set, write_images
from PIL import Image
from scipy import spatial

import download
from dcgan.data.dataset import open_dataset
from dcgan.data.idx import write_idx
from dcgan.evaluation import real_images
from dcgan.evaluation.classifier import Classifier
from dcgan.evaluation.encode import build_encoder, cells, pooled
from dcgan.evaluation.evaluate import entropy
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.inception import GraphExtractor, digest_of
from dcgan.evaluation.nearest import save_nearest, to_vectors
from dcgan.evaluation.real_images import RealImages
from dcgan.util.errors import UserError

COUNT = 24  # images of each set of tiny_runs


def write_inception(path):
    """A small graph like Inception: from a JPEG file, one image in a batch, old ops."""
    rng = np.random.RandomState(0)
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [], 'DecodeJpeg/contents')
        x = tf.cast(tf.image.decode_jpeg(contents, 3), tf.float32, 'Cast')
        x = tf.image.resize(tf.expand_dims(x, 0, name='ExpandDims'), [16, 16])
        filters = tf.constant(rng.randn(3, 3, 3, 8), tf.float32)
        x = tf.nn.conv2d((x - 128) / 128, filters, 2, 'VALID', name='conv')
        for name in 'mean', 'variance', 'beta', 'gamma':
            tf.constant(rng.rand(8), tf.float32, name=name)
        x = tf.nn.relu(tf.identity(x, 'norm'))
        x = tf.nn.avg_pool(x, 7, 1, 'VALID', name='pool_3')
        tf.reshape(x, [1, 8], name='pool_3/_reshape')
        definition = graph.as_graph_def()
    node = next(node for node in definition.node if node.name == 'norm')
    node.op = 'BatchNormWithGlobalNormalization'
    node.input[:] = ['conv', 'mean', 'variance', 'beta', 'gamma']
    node.attr['variance_epsilon'].f = 0.001
    node.attr['scale_after_normalization'].b = False
    definition.versions.producer = 8  # the last one that has this op
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(definition.SerializeToString())


def write_means(path, dtype=tf.float32, size=None, channels=3):
    """A frozen graph whose features are the means of each channel."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(dtype, [None, size, size, channels], 'images')
        tf.reduce_mean(tf.cast(images, tf.float32), [1, 2], name='means')
        path.write_bytes(graph.as_graph_def().SerializeToString())


@pytest.fixture(scope='module')
def workspace(workspace):
    """A copy of tiny_runs, and networks; the runs `set` and `cats` can be evaluated."""
    write_inception(workspace / 'network' / 'inception.pb')
    write_means(workspace / 'network' / 'means.pb')
    return workspace


class Trusted(Classifier):
    """A classifier that is better than chance, whatever it says of few images."""

    accuracy = property(lambda self: 2.0, lambda self, accuracy: None)


@contextlib.contextmanager
def any_classifier():
    """Use any classifier: `set` has 3 held-out images, of noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_images, 'MIN_HELD_OUT', 1)
        patch.setattr(real_images, 'Classifier', Trusted)
        yield


def evaluate(workspace, name, *args, classifiers=any_classifier):
    """Evaluate a run; returns what it prints, and its new lines of JSON as a dict."""
    path = workspace / 'out' / name / 'evaluations.jsonl'
    before = path.read_text().splitlines() if path.exists() else []
    with classifiers():
        output = use(workspace, name, '--evaluate', '--evaluate_samples', 100, *args)
    lines = path.read_text().splitlines()
    assert lines[: len(before)] == before
    rows = map(json.loads, lines[len(before) :])
    return output, {(row['measure'], row['extractor']): row for row in rows}


@pytest.fixture(scope='module')
def evaluated(workspace):
    """What `evaluate` returns for the run on the labelled set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('dcgan.evaluation.evaluate.FITTED_TO', (9, 20, 1000))
        patch.setattr('dcgan.sampling.samples.MAX_SAMPLES_PER_CALL', 15)
        return evaluate(workspace, 'set')


def images_of(folder):
    """A data set of 16x16 images, or as large as they are in IDX files."""
    return open_dataset(str(folder), '*.png', *[(16, 16)] * 2, False, False)


def test_a_labelled_set_needs_no_download(workspace, evaluated):
    (output, rows), by = evaluated, 'classifier'
    for metric in 'frechet_distance', 'kernel_distance', 'precision', 'recall':
        assert f'{metric.replace("_", " ")} ({by})' in output.lower()
    counts = rows['coverage', by]['value']
    assert rows['entropy', by]['value'] == pytest.approx(entropy(np.array(counts)))
    row = rows['frechet_distance', by]
    assert row['samples'] == 100 and row['real'] == COUNT and row['seed'] == 0
    assert row['iteration'] == 3 and row['seconds'] > 0 and not row['averages']
    assert len(row['sha256']) == 64
    assert ' of 3 images, held out\n' in output
    assert 'With fewer than 10,000 samples, the Frechet distance is biased' in output
    with Image.open(workspace / 'out/set/samples/nearest.png') as grid:
        assert grid.size == (11 * 16 + 2 * 2, 16 * 18) and grid.mode == 'L'
    accuracies = rows['accuracy_by_class', by]['value']
    assert len(accuracies) == 4 and sum(counts) == 100
    labels = images_of(workspace / 'data' / 'set').labels
    order = np.random.RandomState(0).permutation(COUNT)
    drawn = np.bincount(np.resize(labels[order], 100))
    accuracy = (drawn * accuracies).sum() / 100
    assert rows['accuracy', by]['value'] == pytest.approx(accuracy)
    line = rf'class +samples +accuracy\n  0 +{counts[0]} +{accuracies[0]:.1%}\n'
    assert re.search(line, output)


def test_the_error_of_a_nearest_neighbour_classifier_equals_its_definition(
    workspace, evaluated
):
    data = images_of(workspace / 'data' / 'set')
    images, labels = data.take(np.random.RandomState(0).permutation(COUNT))
    z = np.random.RandomState(0).uniform(-1, 1, (100, 6))
    np.savez(workspace / 'z.npz', z=z, labels=np.resize(labels, 100))
    output = use(workspace, 'set', '--z_file', 'z.npz', '--npz')
    with np.load(workspace / re.search(r'\S+/test_\d+\.npz', output)[0]) as file:
        samples, of_samples = file['images'], file['labels']
    held_out = slice(COUNT - COUNT // 7, COUNT)
    of_real = spatial.distance.cdist(*[to_vectors(images)] * 2)
    np.fill_diagonal(of_real, np.inf)  # an image is not its own neighbour
    of_drawn = spatial.distance.cdist(to_vectors(images), to_vectors(samples))
    errors = {m: row['value'] for (m, _), row in evaluated[1].items() if 'error' in m}
    for kind, distances, of_points, counts in (
        ('samples', of_drawn, of_samples, (9, 20, 100)),
        ('real', of_real, labels, (9, 20, 24)),
    ):
        for count in counts:
            predicted = of_points[distances[held_out, :count].argmin(axis=1)]
            error = errors.pop(f'nearest_neighbour_error_{count}_{kind}')
            assert error == pytest.approx((predicted != labels[held_out]).mean())
    assert not errors


def test_the_classifier_and_the_statistics_are_kept(workspace, evaluated):
    folder = workspace / 'data' / 'set' / '.cache'
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path.name.split('-')[0] for path in times} == {'classifier', 'statistics'}
    _, again = evaluate(workspace, 'set')
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    for key in again.keys() & evaluated[1].keys():
        assert again[key]['value'] == evaluated[1][key]['value']
    with np.load(next(folder.glob('statistics-*'))) as file:
        assert file['mu'].shape == (128,) and file['sigma'].shape == (128, 128)
        assert file['sigma'] == pytest.approx(np.cov(file['features'].T), abs=1e-4)


def test_metrics_are_of_the_samples_that_the_seed_draws(workspace):
    args = ['--features', 'network/means.pb', '--generate_test_images', 100, '--npz']
    output, rows = evaluate(workspace, 'cats', *args, '--seed', 3)
    npz = re.search(r' \[\*\] (.*/test_\d+\.npz)', output)[1]
    with np.load(workspace / npz) as file:  # drawn after the evaluation
        z = np.random.RandomState(3).uniform(-1, 1, (100, 6))
        assert (file['z'] == z.astype(np.float32)).all()
        means = file['images'].mean(axis=(1, 2))
    real = images_of(workspace / 'data' / 'cats').take(np.arange(COUNT))[0]
    real = real.mean(axis=(1, 2))
    distance = frechet_distance(*gaussian(real), *gaussian(means))
    value = rows['frechet_distance', 'means.pb']['value']
    assert value == pytest.approx(distance, rel=1e-3)
    _, others = evaluate(workspace, 'cats', *args, '--seed', 4)
    assert others['frechet_distance', 'means.pb']['value'] != value


def test_inception_is_found_where_it_was_downloaded(workspace):
    path = workspace / 'data' / 'inception' / 'classify_image_graph_def.pb'
    path.parent.mkdir()
    shutil.copy(workspace / 'network' / 'inception.pb', path)
    output, rows = evaluate(workspace, 'cats')
    path.unlink()
    assert {extractor for _, extractor in rows} == {'Inception', 'random network', None}
    assert '\n  FID  ' in output and re.search(r'\n  KID .* \+- ', output)
    assert rows['kernel_distance', 'Inception']['spread'] > 0


def test_a_run_of_the_original_is_evaluated(tmp_path):
    folder = tmp_path / 'original' / 'checkpoint'
    shutil.copytree(ROOT / 'tests/golden/cond28/checkpoint', folder)
    write_idx_set(tmp_path / 'data' / 'mnist', count=70, size=28, classes=10)
    args = ['--dataset', 'mnist', '--checkpoint_dir', folder, '--resume_step', 1]
    args += ['--evaluate', '--evaluate_samples', 20]
    result = run_in_process(*args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = map(json.loads, (folder / 'evaluations.jsonl').read_text().splitlines())
    assert {row['iteration'] for row in rows} == {1}


def test_labels_can_be_given_to_evaluate_a_model_without_classes(workspace):
    names = [f'{i:03d}.png,{"ab"[i % 2]}\n' for i in range(COUNT)]
    (workspace / 'cats.csv').write_text(''.join(names))
    output, rows = evaluate(workspace, 'cats', '--labels', 'cats.csv')
    assert sum(rows['coverage', 'classifier']['value']) == 100
    assert re.search(r'class +samples\n  a +\d+\n  b +\d+\n', output)
    assert not any('accuracy' in m or 'nearest' in m for m, _ in rows)


def test_precision_and_recall_are_of_equal_numbers(workspace, monkeypatch):
    counts = []

    def count(real, samples):
        counts.append((len(real), len(samples)))
        return 0, 0

    monkeypatch.setattr('dcgan.evaluation.evaluate.precision_recall', count)
    _, rows = evaluate(workspace, 'cats')
    assert counts == [(COUNT, COUNT)]
    assert rows['precision', 'random network']['compared'] == COUNT


def test_nearest_images_are_shown_beside_samples(tmp_path):
    cells = np.arange(10, dtype=np.uint8).reshape(2, 5, 1, 1, 1)
    cells = np.tile(cells, (1, 1, 8, 8, 1))
    groups = cells[:, 1:].reshape(2, 2, 2, *cells.shape[2:])
    save_nearest(cells[:, 0], groups, str(tmp_path / 'nearest.png'))
    rows = np.full((2, 10, 5 * 8 + 2 * 2), 255)
    for row in range(2):
        for column, left in enumerate((0, 10, 18, 28, 36)):
            rows[row, :8, left : left + 8] = 5 * row + column
    with Image.open(tmp_path / 'nearest.png') as grid:
        assert (np.asarray(grid) == rows.reshape(20, -1)).all()


def test_copies_of_the_data_are_recognized(workspace, monkeypatch):
    def draw_copies(sess, dcgan, z, labels, as_bytes):
        yield dcgan.data.take(np.arange(len(z)) % COUNT)[0]

    monkeypatch.setattr('dcgan.evaluation.references.draw_batches', draw_copies)
    _, rows = evaluate(workspace, 'cats', '--features', 'network/means.pb')
    assert rows['closer_in_pixels', None]['value'] == 1
    assert rows['closer_in_features', 'means.pb']['value'] > 0.99
    assert rows['precision', 'means.pb']['value'] == 1
    with Image.open(workspace / 'out/cats/samples/nearest.png') as grid:
        pixels = np.asarray(grid)
    for left in 18, 18 + 5 * 16 + 2:  # the first neighbours in pixels, in features
        assert (pixels[:, left : left + 16] == pixels[:, :16]).all()


def test_statistics_go_to_the_run_where_the_data_cannot_be_written(tmp_path):
    data, own = tmp_path / 'set', tmp_path / 'own'
    write_idx_set(data)
    (data / '.cache').write_text('a file, in which nothing can be written')
    with any_classifier():
        real = RealImages(images_of(data), str(data), str(own))
        classifier = real.classifier('set')
    features = real.statistics(classifier)['features']
    kept = real.cached_statistics(classifier)
    assert (kept['features'] == features).all()
    names = {path.name.split('-')[0] for path in own.iterdir()}
    assert names == {'classifier', 'statistics'}


# Few samples, an extra that fails, a classifier at chance


@pytest.mark.parametrize('count', [4, 5, 15, 16, 17])
def test_every_number_of_samples_that_the_flag_admits_is_evaluated(workspace, count):
    args = ['--features', 'network/means.pb', '--evaluate_samples', count]
    _, rows = evaluate(workspace, 'cats', *args)
    assert rows['closer_in_features', 'means.pb']['samples'] == count
    with Image.open(workspace / 'out/cats/samples/nearest.png') as grid:
        assert grid.height == 18 * min(count, 16)


@pytest.mark.slow
def test_sets_of_the_least_size_and_of_one_class_are_evaluated(tiny_copy):
    for number, labels in enumerate(([0] * 8, [0] * 7 + [3], [0] * 20 + [3])):
        shutil.rmtree(tiny_copy / 'data' / 'set')
        images = np.random.RandomState(0).randint(0, 256, (len(labels), 16, 16))
        name = f'{tiny_copy}/data/set/train-'
        write_idx(f'{name}images-idx3-ubyte', images.astype(np.uint8))
        write_idx(f'{name}labels-idx1-ubyte', np.array(labels, np.uint8))
        for classifiers in any_classifier, contextlib.nullcontext:
            _, rows = evaluate(tiny_copy, 'set', classifiers=classifiers)
            assert rows['closer_in_pixels', None]['real'] == len(labels), number


@pytest.mark.parametrize('name', ['nearest.png', '.'])
def test_measures_are_kept_where_nearest_png_cannot_be_written(tiny_copy, name):
    write_means(tiny_copy / 'means.pb')
    samples = tiny_copy / 'out' / 'cats' / 'samples'
    if name == '.':
        shutil.rmtree(samples)
        samples.touch()
    else:
        (samples / name / 'a_folder').mkdir(parents=True)
    output, rows = evaluate(tiny_copy, 'cats', '--features', 'means.pb')
    assert ('closer_in_features', 'means.pb') in rows
    assert output.count(' [!] No ./out/cats/samples/nearest.png: ') == 1
    assert '\n  recall (means.pb)' in output


def test_measures_are_written_as_they_come(tiny_copy, monkeypatch):
    write_means(tiny_copy / 'means.pb')
    monkeypatch.setattr('dcgan.evaluation.evaluate.precision_recall', None)
    args = ['--out_name', 'cats', '--evaluate', '--evaluate_samples', 9]
    result = run_in_process(*args, '--features', 'means.pb', cwd=tiny_copy)
    assert result.returncode == 1 and 'cats/error.txt has what' in result.stderr
    text = (tiny_copy / 'out' / 'cats' / 'evaluations.jsonl').read_text()
    measures = [json.loads(line)['measure'] for line in text.splitlines()]
    assert measures == ['frechet_distance', 'kernel_distance']


def write_quarters(folder, share, sizes=(175, 175, 175, 175)):
    """An IDX set of noisy images; of a `share`, the bright quarter is the class."""
    rng = np.random.RandomState(0)
    labels = np.repeat(np.arange(4), sizes).astype(np.uint8)
    noise = rng.randint(0, 4, len(labels))
    shown = np.where(rng.rand(len(labels)) < share, labels, noise)
    quarters = np.eye(4, dtype=np.uint8)[shown].reshape(-1, 2, 2)
    quarters = 150 * quarters.repeat(4, axis=1).repeat(4, axis=2)
    pixels = rng.randint(0, 100, quarters.shape).astype(np.uint8)
    write_idx(f'{folder}/train-images-idx3-ubyte', pixels + quarters)
    write_idx(f'{folder}/train-labels-idx1-ubyte', labels)


@pytest.mark.parametrize(
    ('share', 'sizes', 'is_used'),
    [
        (1, (175,) * 4, True),
        (0.5, (175,) * 4, True),
        (0, (175,) * 4, False),
        (1, (700, 0, 0, 0), False),  # there is one class
        (0, (630, 70, 0, 0), False),  # 90% are easy to guess
        (1, (300, 300, 50, 49), False),  # 99 held-out images
    ],
)
def test_a_classifier_is_used_if_it_beats_chance(
    share, sizes, is_used, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr('dcgan.evaluation.classifier.MAX_EPOCHS', 8)
    write_quarters(tmp_path, share, sizes)
    for _ in 'new', 'cached':
        real = RealImages(images_of(tmp_path), str(tmp_path), '')
        assert bool(real.classifier('quarters')) == is_used
        printed = capsys.readouterr().out
        assert printed.count(' [*] Classifier of quarters: ') == is_used
        assert printed.count(' [!] Classifier of quarters is left out: ') == (
            not is_used
        )


def test_a_classifier_at_chance_is_left_out_with_its_measures(workspace):
    unused = {'classifiers': contextlib.nullcontext}
    output, rows = evaluate(workspace, 'set', **unused)
    line = r' \[!\] Classifier of set is left out: .* of 3 .* 100 are needed'
    measures = 'accuracy', 'coverage', 'entropy', 'frechet_distance'
    by_classifier = {(measure, 'classifier') for measure in measures}
    assert re.search(line, output) and not {*rows} & by_classifier
    with Image.open(workspace / 'out/set/samples/nearest.png') as grid:
        assert grid.width == 11 * 16 + 4  # neighbours by the random network, too
    args = ['--features', 'network/means.pb']
    output, rows = evaluate(workspace, 'set', *args, **unused)
    assert 'accuracy' not in output and 'Frechet distance (means.pb)' in output
    assert {by for _, by in rows} == {'means.pb', 'random network', None}
    assert not {'coverage', 'entropy', 'accuracy'} & {measure for measure, _ in rows}


def test_a_network_that_gives_all_images_the_same_features_is_refused(workspace):
    path = workspace / 'network' / 'constant.pb'
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], 'images')
        means = tf.reduce_mean(images, [1, 2])
        tf.nn.relu(means - 1000, name='dead')
        path.write_bytes(graph.as_graph_def().SerializeToString())
    args = ['--out_name', 'cats', '--evaluate', '--features', 'network/constant.pb']
    result = run_in_process(*args, cwd=workspace)
    line = 'main.py: constant.pb: gives the same features for all images; give another'
    assert result.returncode == 1 and line in result.stderr


def test_measures_do_not_need_a_cache(tmp_path, capsys):
    data, own = tmp_path / 'set', tmp_path / 'own'
    write_idx_set(data)
    for path in (data / '.cache', own):
        path.write_text('a file, in which nothing can be written')
    real_images = RealImages(images_of(data), str(data), str(own))
    real_images.classifier('set')
    features = np.random.RandomState(0).rand(40, 2).astype(np.float32)
    extractor = mock.Mock(digest='0', features=lambda images: features)
    found = real_images.statistics(extractor)
    assert (found['features'] == features).all()
    printed = capsys.readouterr().out
    for name in ('classifier', 'statistics'):
        assert printed.count(f' [!] No {own}/{name}-') == 1


def test_files_and_sets_that_cannot_be_used_are_named(tmp_path):
    write_images(tmp_path / 'few', count=7)
    with pytest.raises(UserError, match='few: 7 images are too few'):
        RealImages(images_of(tmp_path / 'few'), str(tmp_path / 'few'), '')
    path = tmp_path / 'network.pb'
    for flag, value, problem in (
        ('--features', path, 'network.pb: no such file'),
        ('--encode', 'cats', '--encode cats: the name has to end in .npz'),
    ):
        result = run_in_process('--train', flag, value, cwd=tmp_path)
        assert problem in result.stderr
    for content in b'no graph', b'':
        path.write_bytes(content)
        with pytest.raises(UserError, match='network.pb: neither a frozen graph nor'):
            GraphExtractor(str(path))


def test_inception_takes_images_of_any_size_and_gray_ones(workspace):
    extractor = GraphExtractor(str(workspace / 'network' / 'inception.pb'))
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (7, 20, 24, 3)).astype(np.uint8)
    features = extractor.features(images)
    assert features.shape == (7, 8) and features.dtype == np.float32
    assert extractor.features(images[2:3]) == pytest.approx(features[2:3], rel=1e-4)
    gray = images[..., :1]
    of_rgb = extractor.features(gray.repeat(3, axis=3))
    assert (extractor.features(gray) == of_rgb).all()


def test_other_frozen_graphs_take_values_up_to_255(tmp_path):
    for dtype in tf.uint8, tf.float32:
        write_means(tmp_path / 'means.pb', dtype, size=8, channels=1)
        extractor = GraphExtractor(str(tmp_path / 'means.pb'))
        images = np.full((3, 20, 20, 3), 200, np.uint8)
        assert extractor.features(images) == pytest.approx(np.full((3, 1), 200), abs=1)
        assert extractor.name == 'means.pb'


def test_saved_models_give_features(tmp_path):
    folder = str(tmp_path / 'model')
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        scale = tf.get_variable('scale', initializer=2.0, use_resource=True)
        means = scale * tf.reduce_mean(images, [1, 2])
        sess.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(sess, folder, {'images': images}, {'means': means})
    images = np.full((3, 5, 5, 3), 10, np.uint8)
    extractor = GraphExtractor(folder)
    assert extractor.features(images) == pytest.approx(np.full((3, 3), 20))
    assert extractor.name == 'model' and len(extractor.digest) == 64
    (tmp_path / 'model' / 'variables' / 'more').write_text('changed')
    assert digest_of(folder) != extractor.digest


def test_inception_is_downloaded_and_unpacked(tmp_path):
    name, mirror = 'classify_image_graph_def.pb', tmp_path / 'mirror'
    write_inception(mirror / name)
    archive_path = mirror / 'inception-2015-12-05.tgz'
    with tarfile.open(archive_path, 'w:gz') as archive:
        archive.add(mirror / name, 'LICENSE')
        archive.add(mirror / name, f'./{name}')
    args = ['inception', '--mirror', mirror.as_uri(), '--data_dir']
    download.main([*args, str(tmp_path)])
    archive_path.write_bytes(b'cut' * 100)
    download.main([*args, str(tmp_path)])  # it is there
    with pytest.raises(UserError, match='not the expected file'):
        download.main([*args, str(tmp_path / 'other')])
    names = sorted(path.name for path in (tmp_path / 'inception').iterdir())
    assert names == [name, f'{name}.sha256']
    extractor = GraphExtractor(str(tmp_path / 'inception' / name))
    assert extractor.features(np.zeros((2, 9, 9, 3), np.uint8)).shape == (2, 8)


def test_the_classifier_learns_classes(tmp_path):
    images = np.random.RandomState(0).randint(0, 100, (40, 16, 16, 1)).astype(np.uint8)
    labels = np.arange(40) % 4  # of class n, the quarter n is bright
    quarters = np.eye(4, dtype=np.uint8)[labels].reshape(40, 2, 2, 1)
    images += 150 * quarters.repeat(8, axis=1).repeat(8, axis=2)
    network, path = Classifier((16, 16, 1), 4), str(tmp_path / 'classifier.npz')
    network.train(images, labels)
    features = network.features(images)
    assert (network.predict(features) == labels).mean() > 0.9
    network.accuracy = 0.9
    network.save(path)
    other = Classifier((16, 16, 1), 4)
    assert other.load(path) and other.accuracy == 0.9
    assert other.digest == network.digest and (other.features(images) == features).all()
    (tmp_path / 'classifier.npz').write_bytes(b'cut')
    assert not other.load(path)


def test_encode_writes_what_the_layers_of_d_make_of_images(workspace):
    use(workspace, 'cats', '--encode', 'cats.npz')
    with np.load(workspace / 'cats.npz') as file:
        # of 16x16 images and df_dim 4: 8x8x4, 4x4x8, 2x2x16, 1x1x32
        assert file['features'].shape == (COUNT, 16 * 4 + 16 * 8 + 4 * 16 + 32)
        assert file['logits'].shape == (COUNT,) and (file['labels'] == -1).all()
        assert file['features'].dtype == file['logits'].dtype == np.float32
    use(workspace, 'set', '--encode', 'set.npz', '--train_size', 10)
    order = np.random.RandomState(0).permutation(COUNT)[:10]
    with np.load(workspace / 'set.npz') as file:
        assert len(file['features']) == 10 and (file['indices'] == order).all()
        labels = images_of(workspace / 'data' / 'set').labels
        assert (file['labels'] == labels[order]).all()


def test_an_encoder_takes_the_activations_of_d(sess, make_dcgan):
    dcgan = make_dcgan()
    images = np.random.RandomState(0).randint(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    for _ in range(9):  # moves the averages of batch norm
        sess.run(dcgan.D, dcgan.feed(images, None, np.ones((6, 5))))
    encoder, _ = build_encoder(sess, dcgan)
    features, logits = encoder(images)
    of_one, logit = encoder(images[2:3])
    assert of_one == pytest.approx(features[2:3], abs=1e-5)
    assert logit == pytest.approx(logits[2:3], abs=1e-5)
    w, bias = (v for v in dcgan.d_vars if 'd_h0_conv' in v.name)
    x = (images / 127.5 - 1).astype(np.float32)
    first = tf.nn.leaky_relu(tf.nn.conv2d(x, w, 2, 'SAME') + bias, 0.2)
    activations = sess.run(first).reshape(6, 4, 2, 4, 2, 4).max(axis=(2, 4))
    count = activations[0].size
    assert features[:, :count] == pytest.approx(activations.reshape(6, -1), abs=1e-5)


def test_layers_are_pooled_to_4x4_cells(sess):
    x = np.random.RandomState(0).rand(2, 8, 14, 3).astype(np.float32)
    result = sess.run(pooled(tf.constant(x))).reshape(2, 4, 4, 3)
    for i, rows in enumerate(cells(8)):
        for j, columns in enumerate(cells(14)):
            expected = x[:, rows, columns].max(axis=(1, 2))
            assert (result[:, i, j] == expected).all()
    assert [(s.start, s.stop) for s in cells(8)] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert [(s.start, s.stop) for s in cells(14)] == [(0, 4), (3, 7), (7, 11), (10, 14)]
    assert [(s.start, s.stop) for s in cells(2)] == [(0, 1), (1, 2)]
