"""Write the sampler for programs without TensorFlow, as an ONNX or a TFLite file.

From z [B, z_dim], float32, and the label [B], int32, of a model with classes, it draws
images [B, h, w, c], uint8, and the same as floats in [0, 1].
"""

import contextlib
import io
import json
import logging
import os
import tempfile
import zipfile
from functools import partial

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.eager.context import eager_mode

from dcgan.data.labels import class_names_of
from dcgan.sampling.export import sampler_graph
from dcgan.training.user_model import bytes_and_floats
from dcgan.util.files import write_bytes, write_errors
from dcgan.util.output import print_line, print_path
from dcgan.util.z import gen_random

MAX_CHANGE = 0.5  # of a pixel, in levels of 255: half of what shows


def check_packages(config) -> None:
    """Raise UserError if a package is missing that flags in config need."""
    if config.onnx:
        with converting('--onnx', 'cannot import tf2onnx', 'pip install tf2onnx'):
            import tf2onnx.convert  # noqa: F401


def write(dcgan, config, step: int) -> None:
    """Write what --onnx and --tflite ask for; print where."""
    for flag, convert in ('onnx', onnx_bytes), ('tflite', tflite_bytes):
        if getattr(config, flag):
            path = os.path.join(config.checkpoint_dir, f'generator-{step}.{flag}')
            write_bytes(path, convert(dcgan, config, step))
            print_path(path)


def onnx_bytes(dcgan, config, step: int) -> bytes:
    """The sampler of a model.DCGAN as an ONNX file, which computes in float32.

    Layers' weights are stored as float16 where that keeps samples; a line tells it.
    """
    from onnx import TensorProto, checker, helper, numpy_helper
    from tf2onnx.convert import from_graph_def

    cast = partial(helper.make_node, 'Cast', to=TensorProto.FLOAT)
    with converting('--onnx'), sampler_graph(dcgan, portable=True) as (sess, inputs, x):
        outputs = bytes_and_floats(dcgan, x)
        ends = [[t.name for t in part.values()] for part in (inputs, outputs)]
        freeze, nodes = tf.graph_util.convert_variables_to_constants, outputs.values()
        graph = freeze(sess, sess.graph_def, [tensor.op.name for tensor in nodes])
        count, variables = x.shape[0] or 64, tf.global_variables()
        z = gen_random(config.z_dist, (count, dcgan.z_dim), np.random.RandomState(0))
        feed = dict(zip(inputs.values(), [z, np.arange(count) % (dcgan.y_dim or 1)]))
        before = sess.run(outputs['floats'], feed)
        for variable, values in zip(variables, sess.run(variables)):
            if values.ndim > 1:  # of a layer, neither biases nor moving averages
                variable.load(values.astype(np.float16), sess)
        change = abs(sess.run(outputs['floats'], feed) - before).max() * 255
        weights = 'float16' if change < MAX_CHANGE else 'float32'
        names = {tensor.name: name for name, tensor in {**inputs, **outputs}.items()}
        model, _ = from_graph_def(graph, None, *ends, 17, tensors_to_rename=names)
        for tensor in model.graph.initializer if weights == 'float16' else []:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.squeeze().ndim > 1:
                half, kept = values.astype(np.float16), f'{tensor.name}/float16'
                model.graph.node.insert(0, cast([kept], [tensor.name]))
                tensor.CopyFrom(numpy_helper.from_array(half, kept))
        told = {**facts(dcgan, config, step), 'weights': weights}
        texts = {n: x if isinstance(x, str) else json.dumps(x) for n, x in told.items()}
        helper.set_model_props(model, texts)
        checker.check_model(model, full_check=True)
    print_line(f' [*] ONNX: {weights} weights; {change:.2g} levels of 255 by float16')
    return model.SerializeToString()


def tflite_bytes(dcgan, config, step: int) -> bytes:
    """The sampler as a TFLite file, which is a zip archive of metadata.json, too."""
    with tempfile.TemporaryDirectory() as folder, converting('--tflite'):
        path = os.path.join(folder, 'sampler')
        with sampler_graph(dcgan, portable=True) as (sess, inputs, x):
            outputs = bytes_and_floats(dcgan, x)
            tf.saved_model.simple_save(sess, path, inputs, outputs)
        with eager_mode():  # else the file gets no signature
            converter = tf.compat.v2.lite.TFLiteConverter.from_saved_model(path)
            file = io.BytesIO(converter.convert())
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr('metadata.json', json.dumps(facts(dcgan, config, step)))
    return file.getvalue()


def facts(dcgan, config, step: int) -> dict[str, object]:
    """What a program has to know that draws by such a file."""
    names = class_names_of(dcgan)[: dcgan.y_dim or 0]
    told = {'dataset': config.dataset, 'iteration': int(step), 'z_dim': dcgan.z_dim}
    return {**told, 'z_dist': config.z_dist, 'classes': names, 'range': [0, 1]}


@contextlib.contextmanager
def converting(flag: str, problem='cannot convert the sampler', advice='leave it out'):
    """Keep a converter silent, undo what it sets; its errors become UserErrors."""
    with write_errors(flag, Exception, advice, problem), contextlib.ExitStack() as undo:
        undo.callback(os.environ.update, dict(os.environ))
        undo.callback(logging.disable, logging.root.manager.disable)
        logging.disable()
        yield
