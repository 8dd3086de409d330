"""Graphs for --features only compute; the line that tells is taken of an error."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import run_code
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework.errors import InvalidArgumentError

from dcgan.evaluation.inception import GraphExtractor
from dcgan.util.errors import UserError, short_reason

TENS = np.full((2, 5, 5, 3), 10, np.uint8)
CONTENT = tf.float32  # of files, where they are read


def write_frozen(path, features):
    """A frozen graph of `features` of the means [B, 3] of each channel."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], 'images')
        tf.identity(features(tf.reduce_mean(images, [1, 2])), 'features')
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return graph.as_graph_def()


def write_saved_model(folder, features=lambda x: x, main_op=lambda: None):
    """A SavedModel of `features` of the doubled means [B, 3] of each channel."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        scale = tf.get_variable('scale', initializer=2.0, use_resource=True)
        means = features(scale * tf.reduce_mean(images, [1, 2]))
        sess.run(tf.global_variables_initializer())
        model = tf.saved_model.Builder(str(folder))
        define = tf.saved_model.predict_signature_def
        signatures = {'serving_default': define({'images': images}, {'means': means})}
        assets = tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)
        model.add_meta_graph_and_variables(
            sess, ['serve'], signatures, assets, main_op=main_op()
        )
        model.save()


def after(op, x):
    """x, computed after an op."""
    with tf.control_dependencies([op]):
        return tf.identity(x)


def write(x, name='new'):
    """x, computed after a file is written."""
    return after(tf.io.write_file(name, 'text'), x)


def call(function, x):
    """A call of a function, as an op."""
    return tf.function(function)(x)


def raw(name, **inputs):
    """The output of an op, or the op."""
    return getattr(tf.raw_ops, name)(**inputs)


def remote(x):
    """A call of a function on a device."""
    function = tf.function(tf.abs).get_concrete_function(x)
    return raw('RemoteCall', target='/cpu:0', args=[x], Tout=[CONTENT], f=function)[0]


def iterate(x):
    """x and the length of a line of a file."""
    line = tf.data.make_one_shot_iterator(tf.data.TextLineDataset('secret')).get_next()
    return x + tf.cast(tf.strings.length(line), tf.float32)


def words(x, path):
    """x and the number of a word in a file of words."""
    kinds = tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
    kinds += tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(path, *kinds), -1)
    return x + tf.cast(table.lookup(tf.constant('two')), tf.float32)


SAVED = dict(prefix='new', tensor_names=['x'], shape_and_slices=[''])
MEMORY = dict(dtype=CONTENT, shape=[3], memory_region_name='secret')
PRINTED = dict(input='y', output_stream='file://new')
# features that need an op, or more, by its name
REFUSED = {
    'WriteFile': write,
    'ReadFile': lambda x: x + tf.io.decode_raw(tf.io.read_file('secret'), CONTENT),
    'MatchingFiles': lambda x: after(tf.io.matching_files('*'), x),
    'PyFunc': lambda x: tf.py_func(lambda y: y, [x], CONTENT),
    'EagerPyFunc': lambda x: tf.py_function(lambda y: y, [x], CONTENT),
    'PrintV2': lambda x: after(raw('PrintV2', **PRINTED), x),
    'SaveV2': lambda x: after(raw('SaveV2', tensors=[x], **SAVED), x),
    'RestoreV2': lambda x: x + raw('RestoreV2', dtypes=[CONTENT], **SAVED)[0],
    'ImmutableConst': lambda x: x + raw('ImmutableConst', **MEMORY),
    'DebugIdentityV2': lambda x: raw('DebugIdentityV2', input=x, debug_urls=['file:']),
    'RemoteCall': remote,
    'Abort': lambda x: after(raw('Abort'), x),
    'OneShotIterator': iterate,
    'WriteFile in a function of a function': lambda x: call(
        lambda y: call(write, y), x
    ),
    'WriteFile in a branch': lambda x: tf.cond(
        tf.reduce_sum(x) > 1e9, lambda: write(x), lambda: x
    ),
    'WriteFile in a loop': lambda x: tf.while_loop(
        lambda y: tf.reduce_sum(y) > 1e9, lambda y: write(y), [x]
    ),
}


@pytest.mark.parametrize('control_flow_v2', [False, True])
@pytest.mark.parametrize('what', REFUSED)
def test_graphs_that_do_more_than_compute_are_refused(what, control_flow_v2, tmp_path):
    try:
        if control_flow_v2:
            tf.enable_control_flow_v2()
        write_frozen(tmp_path / 'network.pb', REFUSED[what])
    finally:
        tf.disable_control_flow_v2()
    with pytest.raises(
        UserError, match=rf'network\.pb: .* Python: .*{what.split()[0]}'
    ):
        GraphExtractor(str(tmp_path / 'network.pb'))


def test_functions_are_not_exchanged_for_others_that_write_files(tmp_path):
    path, new = tmp_path / 'network.pb', str(tmp_path / 'new')
    graph = write_frozen(path, lambda x: call(tf.abs, x))
    other = write_frozen(path, lambda x: call(lambda y: write(y, new), x))
    graph.library.function.extend(other.library.function)
    for function, device in zip(graph.library.function, (b'GPU', b'CPU')):
        function.attr['api_implements'].s = b'magnitude'
        function.attr['api_preferred_device'].s = device
    path.write_bytes(graph.SerializeToString())
    assert (GraphExtractor(str(path)).features(TENS) == 10).all()
    assert not os.path.exists(new)


def test_functions_that_call_themselves_are_refused(tmp_path):
    path = tmp_path / 'network.pb'
    graph = write_frozen(path, lambda x: call(lambda y: call(tf.abs, y), x))
    first, second = graph.library.function
    for function, other in (first, second), (second, first):
        (node,) = [n for n in graph.node if 'PartitionedCall' in n.op]
        again = function.node_def.add(name='again', op='PartitionedCall')
        again.CopyFrom(node)
        again.name, again.attr['f'].func.name = 'again', other.signature.name
        again.input[:] = [function.signature.input_arg[0].name]
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match=r'network\.pb: .*cycle'):
        GraphExtractor(str(path))


def test_functions_in_attributes_of_functions_are_judged(tmp_path):
    path = tmp_path / 'network.pb'
    graph = write_frozen(path, lambda x: call(tf.abs, x))
    other = write_frozen(path, lambda x: call(write, x))
    graph.library.function.extend(other.library.function)
    (node,) = [n for n in graph.node if 'PartitionedCall' in n.op]
    name = other.library.function[0].signature.name
    node.attr['f'].func.attr['body'].list.func.add(name=name)
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match='Python: WriteFile'):
        GraphExtractor(str(path))


def test_saved_models_may_read_their_tables_and_hold_what_is_not_run(tmp_path):
    path, new = tmp_path / 'words.txt', str(tmp_path / 'new')
    path.write_text('one\ntwo\n')

    def features(x):
        tf.io.write_file(new, 'text')  # nothing needs it
        tf.reshape(x, tf.io.decode_raw(tf.io.read_file('secret'), tf.int32))
        return words(x, str(path))

    write_saved_model(tmp_path / 'model', features, tf.tables_initializer)
    path.unlink()  # the model has a copy
    extractor = GraphExtractor(str(tmp_path / 'model'))
    assert (extractor.features(TENS) == 21).all()
    assert not os.path.exists(new)


def test_saved_models_are_refused_for_what_their_loading_runs(tmp_path):
    new = str(tmp_path / 'new')
    write_saved_model(tmp_path / 'a', main_op=lambda: tf.io.write_file(new, 'text'))
    write_saved_model(tmp_path / 'b', lambda x: call(lambda y: write(y, new), x))
    write_saved_model(tmp_path / 'c')
    path = tmp_path / 'c' / 'saved_model.pb'
    model = SavedModel.FromString(path.read_bytes())
    (graph,) = model.meta_graphs
    nodes = {node.name: node for node in graph.graph_def.node}
    graph.graph_def.node.add(name='evil', op='EvilOp')
    nodes[graph.saver_def.restore_op_name].input.append('^evil')
    path.write_bytes(model.SerializeToString())
    for name, op in {'a': 'WriteFile', 'b': 'WriteFile', 'c': 'EvilOp'}.items():
        with pytest.raises(UserError, match=f'{name}: .* Python: {op}'):
            GraphExtractor(str(tmp_path / name))
    assert not os.path.exists(new)


def own_words(x, path='secret'):
    """x and the number of a word in a file that is no asset."""
    found = words(x, path)
    tf.get_default_graph().clear_collection(tf.GraphKeys.ASSET_FILEPATHS)
    return found


def test_saved_models_read_no_other_files_than_their_own(tmp_path):
    (tmp_path / 'secret').write_text('one\ntwo\n')
    secret = str(tmp_path / 'secret')
    write_saved_model(
        tmp_path / 'a', lambda x: own_words(x, secret), tf.tables_initializer
    )
    far = {**SAVED, 'prefix': 'gs://nobody/x', 'dtypes': [CONTENT]}
    write_saved_model(tmp_path / 'b', main_op=lambda: tf.group(raw('RestoreV2', **far)))
    write_saved_model(tmp_path / 'c', lambda x: words(x, secret), tf.tables_initializer)
    path = tmp_path / 'c' / 'saved_model.pb'
    model = SavedModel.FromString(path.read_bytes())
    asset = model.meta_graphs[0].asset_file_def.add(filename='../../secret')
    asset.tensor_info.name = 'asset_path:0'
    path.write_bytes(model.SerializeToString())
    told = {
        'a': f'would read {secret}',
        'b': 'would read gs:',
        'c': 'read ../../secret',
    }
    for name, text in told.items():
        with pytest.raises(UserError, match=f'{name}: .* {text}'):
            GraphExtractor(str(tmp_path / name))


def test_features_may_not_read_what_loading_may(tmp_path):
    write_saved_model(tmp_path / 'model', REFUSED['RestoreV2'])
    with pytest.raises(UserError, match='model: .* Python: RestoreV2'):
        GraphExtractor(str(tmp_path / 'model'))


def test_a_network_that_differs_from_its_recorded_digest_is_not_used(tmp_path):
    path, record = tmp_path / 'network.pb', tmp_path / 'network.pb.sha256'
    write_frozen(path, tf.abs)
    digest = GraphExtractor(str(path)).digest
    for text in (digest, f'{digest}  network.pb\n'):  # as sha256sum writes it
        record.write_text(text)
        assert GraphExtractor(str(path)).digest == digest
    write_frozen(path, tf.square)
    with pytest.raises(UserError, match=f'{path}: .*not that in {record}'):
        GraphExtractor(str(path))


@pytest.mark.parametrize(
    'name', ['network.pb', 'model/saved_model.pb', 'model/variables/more']
)
def test_pipes_in_place_of_networks_are_named(name, tmp_path):
    write_saved_model(tmp_path / 'model')
    path = tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    given = name.split('/')[0]
    with pytest.raises(UserError, match=f'{given}: .*no regular file'):
        GraphExtractor(str(tmp_path / given))


KERAS = """
import sys
import keras, tensorflow as tf
images = keras.Input((None, None, 3))
model = keras.Model(images, keras.layers.BatchNormalization()(images))
model.export(sys.argv[1] + '/exported', verbose=False)
model.save(sys.argv[1] + '/model.keras')
tf.saved_model.save(model, sys.argv[1] + '/saved')


class Words(tf.Module):
    def __init__(self, path):
        kinds = tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
        kinds += tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        file = tf.lookup.TextFileInitializer(path, *kinds)
        self.table = tf.lookup.StaticHashTable(file, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 5, 3])])
    def __call__(self, images):
        return images + tf.cast(self.table.lookup(tf.constant('two')), tf.float32)


words = Words(sys.argv[1] + '/words.txt')
tf.saved_model.save(words, sys.argv[1] + '/words', signatures=words.__call__)
"""


@pytest.mark.slow
def test_models_of_tensorflow_2_give_features_or_tell_how(tmp_path):
    (tmp_path / 'words.txt').write_text('one\ntwo\n')
    result = run_code(KERAS, tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    extractor = GraphExtractor(str(tmp_path / 'exported'))
    expected = np.full((2, 75), 10 / 1.001**0.5)
    assert extractor.features(TENS) == pytest.approx(expected)
    (tmp_path / 'words.txt').unlink()
    assert (GraphExtractor(str(tmp_path / 'words')).features(TENS) == 11).all()
    saved = GraphExtractor(str(tmp_path / 'saved'))
    with pytest.raises(UserError, match=r'variable batch_norm.*; .* model\.export\('):
        saved.features(TENS)
    with pytest.raises(UserError, match=r'a file of Keras\); .* model\.export\('):
        GraphExtractor(str(tmp_path / 'model.keras'))


TRACED = """Graph execution error:

Detected at node 'a' defined at (most recent call last):
    File "a.py", line 1, in f
      x = y
    File "a.py", line 2, in <module>
Node: 'a'
"""
USER_CODE = 'in user code:\n\n    File "a.py", line 9, in f  *\n        x = y\n\n    '
KERAS_LAYER = 'Exception encountered when calling Conv2D.call().\n\n\x1b[1m'


@pytest.mark.parametrize(
    'text',
    [
        'it tells',
        'it tells\nMore:\nmuch',
        '\n\nit tells\n\nit explains',
        'Graph execution error:\n\nit tells\n\t [[{{node a}}]]',
        f'{TRACED}it tells\n\t [[{{{{node a}}}}]]\n\nOriginal stack trace for a:\n  b',
        f'{TRACED}2 root error(s) found.\n  (0) INVALID_ARGUMENT:  it tells\n\t [[a]]',
        'Graph execution error:\n\nDetected at node a defined at (most recent call '
        'last):\n<stack traces unavailable>\nit tells\n',
        f'{USER_CODE}it tells\n',
        f'{KERAS_LAYER}it tells\x1b[0m\n\nArguments received by Conv2D.call():\n  a',
        'From /job:worker/replica:0/task:1:\nit tells\nAdditional GRPC error:\n:{}',
    ],
)
def test_the_line_that_tells_is_shown(text):
    assert short_reason(ValueError(text)) == 'it tells'


def test_titles_are_shown_where_there_is_no_more():
    assert short_reason(ValueError('It fails:')) == 'It fails:'
    assert short_reason(ValueError('')) == 'ValueError'


def test_real_errors_of_tensorflow_are_shown_by_what_tells(sess):
    x = tf.placeholder(tf.float32, [None])
    for y in tf.reshape(x, [-1, 7]), call(lambda z: tf.reshape(z, [-1, 7]), x):
        with pytest.raises(InvalidArgumentError) as caught:
            sess.run(y, {x: [1]})
        assert short_reason(caught.value).startswith('Input to reshape is a tensor')
