"""--evaluate and --encode on the command line, and the networks that give features."""

import io
import json
import re
import shutil
import tarfile
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, SMALL, run_in_process, write_idx_set, write_images
from PIL import Image
from scipy import spatial
from test_download import Server

import download
from dcgan.data.dataset import open_dataset
from dcgan.data.idx import write_idx
from dcgan.evaluation.classifier import Classifier
from dcgan.evaluation.encode import build_encoder, cells, pooled
from dcgan.evaluation.evaluate import entropy
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.inception import GraphExtractor
from dcgan.evaluation.nearest import to_vectors
from dcgan.util.errors import UserError

COUNT = 300  # images of the labelled set


def bright_quarters(count):
    """Images [count, 16, 16] and labels: of class n, the quarter n is bright."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 100, (count, 16, 16)).astype(np.uint8)
    labels = (np.arange(count) % 4).astype(np.uint8)
    for image, label in zip(images, labels):
        y, x = 8 * (label // 2), 8 * (label % 2)
        image[y : y + 8, x : x + 8] += 150
    return images, labels


def write_inception(path):
    """A small frozen graph with the nodes of Inception, for images of any size.

    It has, as that graph, an input that is a JPEG file, one image in a batch, and an op
    that TensorFlow has given up for new graphs.
    """
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
def workspace(tmp_path_factory):
    workspace = tmp_path_factory.mktemp('workspace')
    images, labels = bright_quarters(COUNT)
    write_idx(f'{workspace}/data/quarters/train-images-idx3-ubyte', images)
    write_idx(f'{workspace}/data/quarters/train-labels-idx1-ubyte', labels)
    write_images(workspace / 'data' / 'cats', count=60)
    args = ['--train', '--epoch', 1, *SMALL, '--seed', 1]
    for name, more in (
        ('labelled', ['--dataset', 'quarters']),
        ('unlabelled', ['--dataset', 'quarters', '--unconditional']),
        ('cats', ['--dataset', 'cats', '--ema', 0.9]),
    ):
        use(workspace, name, *args, *more)
    write_inception(workspace / 'network' / 'inception.pb')
    return workspace


@pytest.fixture(autouse=True)
def short_training_of_the_classifier(monkeypatch):
    monkeypatch.setattr('dcgan.evaluation.classifier.STEPS', 60)


def use(workspace, name, *args):
    result = run_in_process('--out_name', name, *args, cwd=workspace)
    assert result.returncode == 0, result.stderr
    return result.stdout


def evaluate(workspace, name, *args):
    """Evaluate a run; returns what it prints, and its new lines of JSON as a dict."""
    path = workspace / 'out' / name / 'evaluations.jsonl'
    before = path.read_text().splitlines() if path.exists() else []
    output = use(workspace, name, '--evaluate', '--evaluate_samples', 100, *args)
    lines = path.read_text().splitlines()
    assert lines[: len(before)] == before
    rows = map(json.loads, lines[len(before) :])
    return output, {(row['measure'], row['extractor']): row for row in rows}


@pytest.fixture
def quarters(workspace):
    """Images [COUNT, 16, 16, 1] and labels of the set, in the order of RealImages."""
    folder, sizes = str(workspace / 'data' / 'quarters'), [(16, 16)] * 2
    data = open_dataset(folder, None, *sizes, False, True)
    return data.take(np.random.RandomState(0).permutation(COUNT))


def test_a_labelled_set_needs_no_download(workspace, quarters, monkeypatch):
    monkeypatch.setattr('dcgan.evaluation.evaluate.FITTED_TO', (9, 260, 1000))
    output, rows = evaluate(workspace, 'labelled')
    by = 'classifier'
    for metric in 'frechet_distance', 'kernel_distance', 'precision', 'recall':
        assert f'{metric.replace("_", " ")} ({by})' in output.lower()
    accuracies = rows['accuracy_by_class', by]['value']
    counts = rows['coverage', by]['value']
    assert len(accuracies) == 4 and sum(counts) == 100
    drawn = np.bincount(quarters[1][:100])
    accuracy = (drawn * accuracies).sum() / 100
    assert rows['accuracy', by]['value'] == pytest.approx(accuracy)
    assert re.search(rf'class +samples +accuracy\n  0 +{counts[0]} ', output)
    assert rows['entropy', by]['value'] == pytest.approx(entropy(np.array(counts)))
    errors = {m for m, _ in rows if m.startswith('nearest')}
    tests = ['9_samples', '100_samples', '9_real', '260_real', '300_real']
    assert errors == {f'nearest_neighbour_error_{test}' for test in tests}
    held_out = slice(COUNT - COUNT // 7, COUNT)
    vectors, labels = to_vectors(quarters[0]), quarters[1]
    distances = spatial.distance.cdist(vectors, vectors)
    np.fill_diagonal(distances, np.inf)  # an image is not its own neighbour
    for count in 9, 260, 300:
        predicted = labels[distances[held_out, :count].argmin(axis=1)]
        expected = (predicted != labels[held_out]).mean()
        error = rows[f'nearest_neighbour_error_{count}_real', None]['value']
        assert error == pytest.approx(expected)
    row = rows['frechet_distance', by]
    assert row['samples'] == 100 and row['real'] == COUNT and row['seed'] == 0
    assert row['iteration'] == 37 and row['seconds'] > 0 and not row['averages']
    assert len(row['sha256']) == 64
    assert 'of held-out images recognized' in output
    assert 'With fewer than 10,000 samples, the Frechet distance is biased' in output


def test_the_classifier_and_the_statistics_are_kept(workspace):
    _, before = evaluate(workspace, 'labelled')
    folder = workspace / 'data' / 'quarters' / '.cache'
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path.name.split('-')[0] for path in times} == {'classifier', 'statistics'}
    _, after = evaluate(workspace, 'labelled')
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    values = [{k: row['value'] for k, row in rows.items()} for rows in (before, after)]
    assert values[0] == values[1]
    with np.load(next(folder.glob('statistics-*'))) as file:
        assert file['mu'].shape == (128,) and file['sigma'].shape == (128, 128)
        assert file['sigma'] == pytest.approx(np.cov(file['features'].T), abs=1e-4)


def test_a_model_without_classes_is_counted_by_class(workspace):
    output, rows = evaluate(workspace, 'unlabelled')
    assert sum(rows['coverage', 'classifier']['value']) == 100
    assert not any('accuracy' in m or 'nearest' in m for m, _ in rows)
    assert 'accuracy' not in output


def test_samples_depend_on_the_seed(workspace):
    path = workspace / 'network' / 'means.pb'
    write_means(path)
    distances = []
    for seed in 3, 3, 4:
        _, rows = evaluate(workspace, 'cats', '--seed', seed, '--features', path)
        distances.append(rows['frechet_distance', 'means.pb']['value'])
    assert distances[0] == distances[1] != distances[2]
    args = ['--npz', '--generate_test_images', 100, '--seed', 3]
    output = use(workspace, 'cats', *args)
    npz = next(line for line in output.splitlines() if line.endswith('.npz'))
    means = np.load(workspace / npz.removeprefix(' [*] '))['images'].mean(axis=(1, 2))
    real = [np.asarray(Image.open(p)) for p in (workspace / 'data/cats').glob('*.png')]
    distance = frechet_distance(
        *gaussian(np.array([resized(image).mean((0, 1)) for image in real])),
        *gaussian(means),
    )
    assert distances[0] == pytest.approx(distance, rel=1e-3)


def resized(image):
    return np.asarray(Image.fromarray(image).resize((16, 16), Image.BILINEAR))


def test_averages_are_evaluated_unless_told_otherwise(workspace):
    path = workspace / 'network' / 'means.pb'
    write_means(path)
    rows = [
        evaluate(workspace, 'cats', '--features', path, *more)[1]
        for more in ([], ['--ema', 0])
    ]
    first, second = (row['frechet_distance', 'means.pb'] for row in rows)
    assert first['averages'] and not second['averages']
    assert first['value'] != second['value']


def test_pictures_without_labels_need_a_network(workspace):
    result = run_in_process('--out_name', 'cats', '--evaluate', cwd=workspace)
    assert result.returncode == 1 and 'download.py inception' in result.stderr
    assert '--features FILE' in result.stderr


def test_inception_is_found_where_it_was_downloaded(workspace):
    path = workspace / 'data' / 'inception' / 'classify_image_graph_def.pb'
    write_inception(path)
    try:
        output, rows = evaluate(workspace, 'cats')
    finally:
        path.unlink()
    assert {extractor for _, extractor in rows} == {'Inception', None}
    assert '\n  FID  ' in output and '\n  KID  ' in output


def test_the_kernel_distance_has_a_spread(workspace):
    path = workspace / 'network' / 'inception.pb'
    _, rows = evaluate(workspace, 'cats', '--features', path)
    assert rows['kernel_distance', 'Inception']['spread'] > 0


def test_a_run_of_the_original_is_evaluated(workspace, tmp_path):
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
    names = sorted(p.name for p in (workspace / 'data' / 'cats').glob('*.png'))
    table = workspace / 'cats.csv'
    table.write_text(''.join(f'{n},{"ab"[i % 2]}\n' for i, n in enumerate(names)))
    bad = workspace / 'data' / 'cats' / '030.png'
    content = bad.read_bytes()
    (workspace / 'data' / 'cats' / '030.png').write_bytes(b'no image')
    try:  # 1 of 60 images is more than 1%
        args = ['--out_name', 'cats', '--evaluate', '--labels', 'cats.csv']
        result = run_in_process(*args, cwd=workspace)
        assert result.returncode == 1 and '1 of 60 images' in result.stderr
    finally:
        bad.write_bytes(content)
    output, rows = evaluate(workspace, 'cats', '--labels', 'cats.csv')
    assert sum(rows['coverage', 'classifier']['value']) == 100
    assert re.search(r'\n  a +\d+\n  b +\d+\n', output)


def test_sets_of_a_few_images_are_refused(tmp_path):
    write_images(tmp_path / 'data' / 'few', count=8)
    args = ['--out_name', 'few', '--dataset', 'few', *SMALL]
    assert run_in_process(*args, '--train', '--epoch', 1, cwd=tmp_path).returncode == 0
    (tmp_path / 'data' / 'few' / '000.png').unlink()
    write_means(tmp_path / 'means.pb')
    args += ['--batch_size', 4, '--evaluate', '--features', 'means.pb']
    result = run_in_process(*args, cwd=tmp_path)
    assert result.returncode == 1 and '7 images are too few' in result.stderr


def test_an_evaluation_does_not_change_the_samples_of_a_seed(workspace):
    write_means(workspace / 'network' / 'means.pb')
    arrays = []
    for more in [], ['--evaluate', '--features', 'network/means.pb']:
        args = ['--npz', '--seed', 5, '--generate_test_images', 9, *more]
        output = use(workspace, 'unlabelled', *args)
        npz = next(
            line for line in output.splitlines() if re.search(r'test_\d+\.npz$', line)
        )
        arrays.append(np.load(workspace / npz.removeprefix(' [*] '))['z'])
    assert (arrays[0] == arrays[1]).all()


def test_nearest_images_are_shown_beside_samples(workspace):
    evaluate(workspace, 'labelled')
    path = workspace / 'out' / 'labelled' / 'samples' / 'nearest.png'
    with Image.open(path) as grid:
        assert grid.size == (11 * 16 + 2 * 2, 16 * 18) and grid.mode == 'L'


def test_copies_of_the_data_are_recognized(workspace, monkeypatch):
    def draw_copies(sess, dcgan, z, labels, as_bytes):
        yield dcgan.data.take(np.arange(len(z)))[0]

    monkeypatch.setattr('dcgan.evaluation.evaluate.draw_batches', draw_copies)
    _, rows = evaluate(workspace, 'unlabelled')
    assert rows['closer_in_pixels', None]['value'] == 1
    assert rows['closer_in_features', 'classifier']['value'] > 0.99
    assert rows['precision', 'classifier']['value'] == 1


def test_statistics_go_to_the_run_where_the_data_cannot_be_written(
    workspace, monkeypatch
):
    def refuse(folder, advice):
        if 'data' in folder:
            raise UserError(f'{folder}: cannot be written')

    monkeypatch.setattr('dcgan.evaluation.real_images.require_writable', refuse)
    evaluate(workspace, 'unlabelled')
    names = {p.name for p in (workspace / 'out/unlabelled/evaluation').iterdir()}
    assert {name.split('-')[0] for name in names} == {'classifier', 'statistics'}


@pytest.mark.parametrize(
    'content, message',
    [(b'no graph', 'neither a frozen graph nor'), (None, 'no such file')],
)
def test_a_file_that_is_no_network_is_named(content, message, workspace, tmp_path):
    path = tmp_path / 'network.pb'
    if content:
        path.write_bytes(content)
    args = ['--out_name', 'cats', '--evaluate', '--features', path]
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and message in result.stderr
    assert str(path) in result.stderr and len(result.stderr.splitlines()) == 1


# The networks


def test_inception_takes_images_of_any_size_and_gray_ones(workspace):
    extractor = GraphExtractor(str(workspace / 'network' / 'inception.pb'))
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (7, 20, 24, 3)).astype(np.uint8)
    features = extractor.features(images)
    assert features.shape == (7, 8) and features.dtype == np.float32
    assert extractor.features(images[2:3]) == pytest.approx(features[2:3], rel=1e-4)
    gray = images[..., :1]
    assert (
        extractor.features(gray) == extractor.features(gray.repeat(3, axis=3))
    ).all()


@pytest.mark.parametrize('dtype', [tf.uint8, tf.float32])
def test_other_frozen_graphs_take_values_up_to_255(dtype, tmp_path):
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


def test_inception_is_downloaded_and_unpacked(tmp_path):
    write_inception(tmp_path / 'made' / 'classify_image_graph_def.pb')
    graph = (tmp_path / 'made' / 'classify_image_graph_def.pb').read_bytes()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode='w:gz') as archive:
        archive.add(tmp_path / 'made' / 'classify_image_graph_def.pb', 'LICENSE')
        info = tarfile.TarInfo('./classify_image_graph_def.pb')
        info.size = len(graph)
        archive.addfile(info, io.BytesIO(graph))
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        server.files['inception-2015-12-05.tgz'] = content.getvalue()
        args = ['--data_dir', str(tmp_path), '--mirror', server.url('good')]
        for _ in range(2):
            download.main(['inception', *args])
        assert len(server.requests) == 1
        server.files['inception-2015-12-05.tgz'] = b'cut' * 100
        args[1] = str(tmp_path / 'other')
        with pytest.raises(UserError, match='not the expected file'):
            download.main(['inception', *args])
        server.shutdown()
    folder = tmp_path / 'inception'
    assert [p.name for p in folder.iterdir()] == ['classify_image_graph_def.pb']
    extractor = GraphExtractor(str(folder / 'classify_image_graph_def.pb'))
    assert extractor.features(np.zeros((2, 9, 9, 3), np.uint8)).shape == (2, 8)


def test_the_classifier_learns_classes(tmp_path):
    images, labels = bright_quarters(40)
    images = images[..., None]
    network = Classifier((16, 16, 1), 4)
    network.train(images, labels)
    assert (network.predict(network.features(images)) == labels).mean() > 0.9
    network.accuracy = 0.9
    network.save(tmp_path / 'classifier.npz')
    other = Classifier((16, 16, 1), 4)
    assert other.load(tmp_path / 'classifier.npz')
    assert other.digest == network.digest and other.accuracy == network.accuracy
    assert (other.features(images) == network.features(images)).all()
    (tmp_path / 'classifier.npz').write_bytes(b'cut')
    assert not other.load(tmp_path / 'classifier.npz')


# Encoding


def test_encode_writes_what_the_layers_of_d_make_of_images(workspace, quarters):
    use(workspace, 'cats', '--encode', 'cats.npz')
    with np.load(workspace / 'cats.npz') as file:
        # of 16x16 images and df_dim 4: 8x8x4, 4x4x8, 2x2x16, 1x1x32
        assert file['features'].shape == (60, 16 * 4 + 16 * 8 + 4 * 16 + 32)
        assert file['logits'].shape == (60,) and (file['labels'] == -1).all()
        assert file['features'].dtype == file['logits'].dtype == np.float32
    use(workspace, 'labelled', '--encode', 'quarters.npz', '--train_size', 100)
    with np.load(workspace / 'quarters.npz') as file:
        assert set(file['labels']) == {0, 1, 2, 3} and len(file['features']) == 100
        assert (file['labels'] == quarters[1][:100]).all()
    result = run_in_process('--out_name', 'cats', '--encode', 'cats', cwd=workspace)
    assert result.returncode == 1 and 'has to end in .npz' in result.stderr


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
