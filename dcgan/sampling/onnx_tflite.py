"""Write the sampler for programs without TensorFlow: as ONNX.

Such a file takes `z`, float32 [B, z_dim], and, of a model with classes, `label`, int32
[B]. It returns `images`, uint8 [B, h, w, c], and `floats`, the same in [0, 1]. B is any
number, unless a sampler fixes it.
"""

import contextlib
import json
import logging
import os

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.data.labels import class_names_of
from dcgan.sampling.export import frozen_sampler
from dcgan.training.user_model import as_bytes, as_unit
from dcgan.util.files import write_bytes, write_errors
from dcgan.util.output import print_line, print_path
from dcgan.util.z import gen_random

OPSET = 17  # of ONNX; its runtimes know it since 2022
MIN_SIZE = 256  # number of weights that are worth storing as float16
MAX_CHANGE = 0.5  # of a pixel by float16, in levels of 255: half of what shows
OUTPUTS = ['images:0', 'floats:0']


def check_packages(config) -> None:
    """Raise UserError if a package is missing that the flags in config need."""
    if config.onnx:
        problem, advice = 'cannot import tf2onnx', 'pip install tf2onnx'
        with converting('--onnx', problem, advice):
            import tf2onnx.convert  # noqa: F401


def write(dcgan, config, step: int) -> None:
    """Write what --onnx asks for; print where."""
    path = os.path.join(config.checkpoint_dir, f'generator-{step}')
    if config.onnx:
        content = onnx_bytes(dcgan, config, step)
        write_bytes(f'{path}.onnx', content)
        print_path(f'{path}.onnx')


def onnx_bytes(dcgan, config, step: int) -> bytes:
    """The sampler of a model.DCGAN as an ONNX file, with what `facts` tells of it.

    Large weights are stored as float16 where no pixel of some samples changes by half a
    level of 255; a line tells it. All arithmetic is float32. UserError if the sampler
    cannot be converted.
    """
    graph, batch = portable_graph(dcgan)
    fewer_bits = rounded(graph)
    z = gen_random(config.z_dist, (batch or 64, dcgan.z_dim), np.random.RandomState(0))
    exact, changed = (floats(g, z, dcgan.y_dim) for g in (graph, fewer_bits))
    change = abs(exact - changed).max() * 255
    weights = 'float16' if change < MAX_CHANGE else 'float32'
    inputs = [f'{node.name}:0' for node in graph.node if node.op == 'Placeholder']
    with converting('--onnx'):
        import onnx
        from tf2onnx.convert import from_graph_def

        model, _ = from_graph_def(
            fewer_bits if weights == 'float16' else graph,
            input_names=inputs,
            output_names=OUTPUTS,
            opset=OPSET,
            tensors_to_rename={n: n.removesuffix(':0') for n in [*inputs, *OUTPUTS]},
        )
        if weights == 'float16':
            store_as_float16(model.graph)
        for value in [*model.graph.input, *model.graph.output]:
            if not batch:
                value.type.tensor_type.shape.dim[0].dim_param = 'batch'
        told = facts(dcgan, config, step) | {'weights': weights}
        texts = {n: x if isinstance(x, str) else json.dumps(x) for n, x in told.items()}
        onnx.helper.set_model_props(model, texts)
        onnx.checker.check_model(model, full_check=True)
    told = f'float16 changes samples by {change:.2g} levels of 255 at most'
    print_line(f' [*] ONNX: {weights} weights; {told}')
    return model.SerializeToString()


def facts(dcgan, config, step: int) -> dict[str, object]:
    """What programs have to know of a model that they draw by."""
    return {
        'dataset': config.dataset,
        'iteration': int(step),
        'z_dim': dcgan.z_dim,
        'z_dist': config.z_dist,
        'classes': class_names_of(dcgan)[: dcgan.y_dim or 0],
        'range': [0, 1],  # of floats
    }


def portable_graph(dcgan) -> tuple[tf.GraphDef, int | None]:
    """The sampler as the files have it, weights as constants; the batch, if fixed."""
    frozen, sampled = frozen_sampler(dcgan)
    batch = sampled.shape[0]
    with tf.Graph().as_default() as graph:
        inputs = {'z:0': tf.placeholder(tf.float32, [batch, dcgan.z_dim], 'z')}
        if dcgan.y_dim:
            label = tf.placeholder(tf.int32, [batch], 'label')
            inputs['y:0'] = tf.one_hot(label, dcgan.y_dim)
        (images,) = tf.import_graph_def(frozen, inputs, [sampled.name], 'sampler')
        unit = tf.identity(as_unit(dcgan, images), 'floats')
        tf.identity(as_bytes(unit), 'images')
    names = [name.removesuffix(':0') for name in OUTPUTS]
    return tf.graph_util.extract_sub_graph(graph.as_graph_def(), names), batch


def floats(graph: tf.GraphDef, z: np.ndarray, classes: int | None) -> np.ndarray:
    """The floats of a portable graph, of the classes in turn; by the CPU, in float32.

    A GPU may round what it multiplies.
    """
    feed = {'z:0': z}
    if classes:
        feed['label:0'] = np.arange(len(z)) % classes
    with tf.Graph().as_default(), tf.Session() as sess, tf.device('/cpu:0'):
        tf.import_graph_def(graph, name='')
        return sess.run('floats:0', feed)


def rounded(graph: tf.GraphDef) -> tf.GraphDef:
    """A copy whose large weights have values that float16 has, too."""
    copy = tf.GraphDef()
    copy.CopyFrom(graph)
    for node in copy.node:
        if node.op == 'Const':
            values = tf.make_ndarray(node.attr['value'].tensor)
            if are_weights(values):
                values = values.astype(np.float16).astype(np.float32)
                node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(values))
    return copy


def are_weights(values: np.ndarray) -> bool:
    """Whether they are a layer's large weights, in the range of float16; no biases."""
    is_vector = sum(n > 1 for n in values.shape) < 2
    if values.dtype != np.float32 or values.size < MIN_SIZE or is_vector:
        return False
    return abs(values).max() <= np.finfo(np.float16).max


def store_as_float16(graph) -> None:
    """Store in an onnx.GraphProto those weights as float16 that lose nothing by it."""
    from onnx import TensorProto, helper, numpy_helper

    casts, to = [], TensorProto.FLOAT
    for tensor in graph.initializer:
        values, name = numpy_helper.to_array(tensor), tensor.name
        if are_weights(values) and (values.astype(np.float16) == values).all():
            half = numpy_helper.from_array(values.astype(np.float16), f'{name}_float16')
            tensor.CopyFrom(half)
            casts.append(helper.make_node('Cast', [half.name], [name], to=to))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@contextlib.contextmanager
def converting(flag: str, problem='cannot convert the sampler', advice='leave it out'):
    """Keep a converter silent, and what it changes; its errors are UserErrors."""
    environment, level = dict(os.environ), logging.root.manager.disable
    logging.disable()
    try:
        with write_errors(flag, Exception, advice, problem):
            yield
    finally:
        logging.disable(level)
        os.environ.update(environment)
