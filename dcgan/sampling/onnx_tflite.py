"""Write the sampler for programs without TensorFlow: as an ONNX or a TFLite file."""

import contextlib
import io
import json
import logging
import os
import tempfile
import zipfile

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.eager.context import eager_mode

from dcgan.data.labels import class_names_of
from dcgan.sampling.export import sampler_graph
from dcgan.training.user_model import bytes_and_floats, fixed_batch
from dcgan.util.files import write_bytes, write_errors
from dcgan.util.output import print_line, print_path
from dcgan.util.quiet_import import held_stderr
from dcgan.util.z import gen_random


def check_packages(config) -> None:
    """Raise UserError if a package is missing that flags in config need."""
    for flag in ('onnx', 'share'):
        if getattr(config, flag):
            how = 'cannot import tf2onnx', 'pip install tf2onnx, see docs/exports.md'
            with converting(f'--{flag}', *how):
                import tf2onnx.convert  # noqa: F401


def write(dcgan, config, step: int) -> None:
    """Write what --onnx and --tflite ask for; print where. UserError if that fails."""
    for flag, convert in ('onnx', onnx_bytes), ('tflite', tflite_bytes):
        if getattr(config, flag):
            with converting(f'--{flag}'):
                content = convert(dcgan, config, step)
            path = path_of(config, step, flag)
            write_bytes(path, content)
            print_path(path)


def path_of(config, step: int, flag: str) -> str:
    """The path of the file that a flag, onnx or tflite, asks for."""
    return os.path.join(config.checkpoint_dir, f'generator-{step}.{flag}')


def onnx_bytes(dcgan, config, step: int) -> bytes:
    """The sampler of a model.DCGAN as an ONNX file, see docs/exports.md.

    Call it, as tflite_bytes, in `converting`. Prints which weights the file has.
    """
    from onnx import checker, helper
    from tf2onnx.convert import from_graph_def

    with sampler_graph(dcgan, portable=True) as (sess, inputs, sampled):
        outputs = bytes_and_floats(dcgan, sampled)
        names = {tensor.name: name for name, tensor in {**inputs, **outputs}.items()}
        ends = [[t.name for t in part.values()] for part in (inputs, outputs)]
        freeze = tf.graph_util.convert_variables_to_constants
        graph = freeze(sess, sess.graph_def, [t.op.name for t in outputs.values()])
        model, _ = from_graph_def(graph, 'G', *ends, opset=17, tensors_to_rename=names)
        count = fixed_batch(dcgan) or 64
        z = gen_random(config.z_dist, (count, dcgan.z_dim), np.random.RandomState(0))
        feed = dict(zip(inputs.values(), [z, np.arange(count) % (dcgan.y_dim or 1)]))
        change = 255 * change_by_float16(sess, outputs['floats'], feed)
    for end in [*model.graph.input, *model.graph.output]:
        batch = end.type.tensor_type.shape.dim[0]
        if batch.dim_param:  # it is any number
            batch.dim_param = 'B'
    weights = 'float16' if change < 0.5 else 'float32'  # half of what shows
    if weights == 'float16':
        store_as_float16(model.graph)
    told = facts(dcgan, config) | {'iteration': int(step), 'weights': weights}
    texts = {n: x if isinstance(x, str) else json.dumps(x) for n, x in told.items()}
    helper.set_model_props(model, texts)
    checker.check_model(model, full_check=True)
    how = f'float16 changes pixels by {change:.2g} of 255 levels'
    print_line(f' [*] ONNX: {weights} weights; {how}')
    return model.SerializeToString()


def change_by_float16(sess, floats: tf.Tensor, feed: dict) -> float:
    """How much a pixel of `floats` changes if layers' weights are rounded, in sess."""
    before = sess.run(floats, feed)
    layers = [v for v in tf.global_variables() if v.shape.ndims > 1]  # no biases
    sess.run([v.assign(tf.cast(tf.cast(v, tf.float16), v.dtype)) for v in layers])
    return abs(sess.run(floats, feed) - before).max()


def store_as_float16(graph) -> None:
    """Store layers' weights of an onnx.GraphProto as float16, to be read as float32."""
    from onnx import helper, numpy_helper

    for w in graph.initializer:
        values = numpy_helper.to_array(w)
        if values.dtype == np.float32 and values.squeeze().ndim > 1:
            half = numpy_helper.from_array(values.astype(np.float16), f'{w.name}_half')
            cast = helper.make_node('Cast', [half.name], [w.name], to=w.data_type)
            graph.node.insert(0, cast)
            w.CopyFrom(half)


def tflite_bytes(dcgan, config, step: int) -> bytes:
    """The sampler as a TFLite file, which is a zip archive of metadata.json, too."""
    with tempfile.TemporaryDirectory() as folder:
        with sampler_graph(dcgan, portable=True) as (sess, inputs, sampled):
            outputs = bytes_and_floats(dcgan, sampled)
            tf.saved_model.simple_save(sess, folder, inputs, outputs)
        with eager_mode():  # else the file gets no signature
            converter = tf.compat.v2.lite.TFLiteConverter.from_saved_model(folder)
            file = io.BytesIO(converter.convert())
    with zipfile.ZipFile(file, 'a') as archive:
        told = facts(dcgan, config) | {'iteration': int(step)}
        archive.writestr('metadata.json', json.dumps(told))
    return file.getvalue()


def facts(dcgan, config) -> dict[str, object]:
    """What a program has to know of the model by which it draws."""
    return {
        'dataset': dcgan.dataset_name,
        'z_dim': dcgan.z_dim,
        'z_dist': config.z_dist,
        'classes': class_names_of(dcgan)[: dcgan.y_dim or 0],
        'range': [0, 1],
    }


@contextlib.contextmanager
def converting(flag: str, problem='cannot convert the sampler', advice='leave it out'):
    """Keep a converter silent, undo what it sets; its errors become UserErrors."""
    how = Exception, advice, problem
    with write_errors(flag, *how), held_stderr(False), contextlib.ExitStack() as undo:
        undo.callback(os.environ.update, dict(os.environ))
        undo.callback(logging.disable, logging.root.manager.disable)
        logging.disable()
        yield
