"""Export a trained model: as a checkpoint, a frozen graph and a SavedModel."""

import contextlib
import os
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from dcgan.compute.forward_pass import SAMPLING
from dcgan.compute.kernels import tensorflow_ops
from dcgan.training.checkpoints import WRITE_ERRORS, meta_graph
from dcgan.training.user_model import original_style
from dcgan.util.files import atomic_path, remove_leftovers, write_bytes, write_errors
from dcgan.util.output import print_path


def freeze(dcgan, path: str) -> None:
    """Write the sampler of a model.DCGAN as a GraphDef with weights as constants.

    From `z` [any, z_dim] and, if it is conditional, `y` [any, y_dim], to
    `generator_1/Tanh` or `generator_1/Sigmoid`. UserError if it cannot be written.
    """
    with sampler_graph(dcgan) as (sess, _, images):
        freeze_weights = tf.graph_util.convert_variables_to_constants
        graph = freeze_weights(sess, sess.graph_def, [images.op.name])
    write_bytes(path, graph.SerializeToString())


def save_sampler(dcgan, folder: str) -> None:
    """Write or replace a SavedModel of a model.DCGAN's sampler.

    Its signature, serving_default, takes z [any, z_dim] and, for a conditional model,
    y [any, y_dim] one-hot; it returns images [any, h, w, c] in [0, 1]. All are float32.
    """
    remove_leftovers(os.path.dirname(folder))
    with (
        sampler_graph(dcgan) as (sess, inputs, images),
        write_errors(folder, WRITE_ERRORS),
        atomic_path(folder) as temporary,
    ):
        outputs = {'images': images if dcgan.y_dim else (images + 1) / 2}
        tf.saved_model.simple_save(sess, temporary, inputs, outputs)


def sampled_weights(dcgan) -> dict[str, tf.Variable]:
    """{name: variable} of the sampler's weights: G's, or their averages."""
    generator = [v for v in dcgan.variables if v.name.startswith('generator/')]
    averages = dcgan.averages.of if dcgan.averages else {}
    return {v.op.name: averages.get(v.op.name, v) for v in generator}


@contextlib.contextmanager
def sampler_graph(dcgan, portable=False) -> Iterator[tuple]:
    """(session, {name: input}, images) of a graph that holds the sampler alone.

    Its ops are TensorFlow's own. portable: by a label [any], not y, and on the CPU.
    """
    values = dcgan.sess.run(sampled_weights(dcgan))
    graph, device = tf.Graph(), '/cpu:0' if portable else None
    with graph.as_default(), tf.Session() as sess, tensorflow_ops(), tf.device(device):
        inputs, y = {'z': tf.placeholder(tf.float32, [None, dcgan.z_dim], 'z')}, None
        if dcgan.y_dim and portable:
            inputs['label'] = tf.placeholder(tf.int32, [None], 'label')
            y = tf.one_hot(inputs['label'], dcgan.y_dim)
        elif dcgan.y_dim:
            inputs['y'] = y = tf.placeholder(tf.float32, [None, dcgan.y_dim], 'y')
        tf.set_random_seed(0)  # of weights that are replaced; determinism asks for one
        if 'sampler' in original_style(dcgan):
            dcgan.generator(inputs['z'], y)  # whose variables such a sampler shares
            images = type(dcgan).sampler(dcgan, inputs['z'], y)
        else:  # names its nodes generator_1/..., as after G in the graph of a model
            tf.get_default_graph().unique_name('generator')
            images = dcgan.generator(inputs['z'], y, how=SAMPLING)
        for variable in tf.global_variables():
            variable.load(values[variable.op.name], sess)
        yield sess, inputs, images


def write_exports(dcgan, config, step: int) -> None:
    """Write what --export, --freeze and --saved_model ask for; print where."""
    folder = config.checkpoint_dir
    if config.export:  # a checkpoint for the original, of the sampler's weights
        path = os.path.join(folder, f'export_b{config.batch_size}')
        sampled, whole = sampled_weights(dcgan), {v.op.name: v for v in dcgan.variables}
        missing = dcgan.sess.run(tf.report_uninitialized_variables(dcgan.variables))
        weights = sampled if len(missing) else whole | sampled  # only G was loaded
        saver, name = tf.train.Saver(weights), f'model.b{dcgan.batch_size}-{step}'
        checkpoints, meta = dcgan.checkpoint_folder(path), meta_graph(dcgan.saver)
        checkpoints.write(dcgan.sess, saver, name, meta)
        print_path(path)
    if config.freeze:
        path = os.path.join(folder, f'frozen_b{config.batch_size}')
        dcgan.save(path, step, ckpt=False, frozen=True)
        print_path(path)
    if config.saved_model:
        path = os.path.join(folder, 'saved_model', str(step))
        save_sampler(dcgan, path)
        print_path(path)
