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


def freeze(dcgan, path: str) -> None:
    """Write the sampler of a model.DCGAN as a GraphDef with weights as constants.

    From `z` [any, z_dim] and, for a conditional model, `y` [any, y_dim], to
    `generator_1/Tanh` or, conditional, `generator_1/Sigmoid`. Raises UserError where
    the file cannot be written.
    """
    with sampler_graph(dcgan) as (sess, _, images):
        freeze_variables = tf.graph_util.convert_variables_to_constants
        graph = freeze_variables(sess, sess.graph_def, [images.op.name])
    write_bytes(path, graph.SerializeToString())


def save_sampler(dcgan, folder: str) -> None:
    """Write or replace a SavedModel of a model.DCGAN's sampler.

    Its signature, serving_default, takes z [any, z_dim] and, for a conditional model,
    y [any, y_dim] one-hot; it returns images [any, h, w, c] in [0, 1]. All are float32.
    Raises UserError where the folder cannot be written.
    """
    remove_leftovers(os.path.dirname(folder))
    with (
        sampler_graph(dcgan) as (sess, inputs, images),
        write_errors(folder, WRITE_ERRORS),
        atomic_path(folder) as temporary,
    ):
        outputs = {'images': images if dcgan.y_dim else (images + 1) / 2}
        signature = tf.saved_model.predict_signature_def(inputs, outputs)
        signatures = {'serving_default': signature}
        builder = tf.saved_model.Builder(temporary)
        builder.add_meta_graph_and_variables(sess, ['serve'], signatures)
        builder.save()


def sampled_weights(dcgan) -> dict[str, tf.Variable]:
    """{name: variable} of the sampler's weights: G's, or their averages."""
    generator = [v for v in dcgan.variables if v.name.startswith('generator/')]
    averages = dcgan.averages.of if dcgan.averages else {}
    return {v.op.name: averages.get(v.op.name, v) for v in generator}


def save_weights(dcgan, folder: str, step: int) -> None:
    """Write a checkpoint that the original can read, with the sampler's weights of G.

    Raises UserError where the folder cannot be written.
    """
    weights = {v.op.name: v for v in dcgan.variables} | sampled_weights(dcgan)
    saver = tf.train.Saver(weights, max_to_keep=None)
    name, checkpoints = f'model.b{dcgan.batch_size}', dcgan.checkpoint_folder(folder)
    checkpoints.write(dcgan.sess, saver, f'{name}-{step}', meta_graph(dcgan.saver))


@contextlib.contextmanager
def sampler_graph(dcgan) -> Iterator[tuple]:
    """(session, {name: input}, images) of a graph that holds the sampler alone.

    Any program can run and differentiate its ops, which are TensorFlow's own.
    """
    values = dcgan.sess.run(sampled_weights(dcgan))
    with tf.Graph().as_default(), tf.Session() as sess, tensorflow_ops():
        inputs = {'z': tf.placeholder(tf.float32, [None, dcgan.z_dim], 'z')}
        if dcgan.y_dim:
            inputs['y'] = tf.placeholder(tf.float32, [None, dcgan.y_dim], 'y')
        tf.set_random_seed(0)  # of weights that are replaced; determinism asks for one
        images = sampler_images(dcgan, inputs)
        for variable in tf.global_variables():
            initial = variable.initializer.inputs[1]
            sess.run(variable.initializer, {initial: values[variable.op.name]})
        yield sess, inputs, images


def sampler_images(dcgan, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Build the sampler of a model in a new graph, with the names of its graph.

    There, G comes first, so that the nodes of the sampler are named generator_1/...
    """
    arguments = inputs['z'], inputs.get('y')
    if 'sampler' in original_style(dcgan):
        dcgan.generator(*arguments)  # the variables, which such a sampler shares
        return type(dcgan).sampler(dcgan, *arguments)
    tf.get_default_graph().unique_name('generator')
    return dcgan.generator(*arguments, how=SAMPLING)


def write_exports(dcgan, config, step: int) -> None:
    """Write what --export, --freeze and --saved_model ask for; print where."""
    for flag, name in (
        ('export', f'export_b{config.batch_size}'),
        ('freeze', f'frozen_b{config.batch_size}'),
        ('saved_model', os.path.join('saved_model', str(step))),
    ):
        folder = os.path.join(config.checkpoint_dir, name)
        if not getattr(config, flag):
            continue
        if flag == 'export':
            save_weights(dcgan, folder, step)
        elif flag == 'freeze':
            dcgan.save(folder, step, ckpt=False, frozen=True)
        else:
            save_sampler(dcgan, folder)
        print(f' [*] {folder}')
