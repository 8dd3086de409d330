"""Find what a user of DCGAN has changed in networks and losses; complete its graph.

Users may set d_loss and g_loss, override build_model, or write networks with the
original's signatures, `generator(self, z, y=None)`, `sampler(self, z, y=None)` and
`discriminator(self, image, y=None, reuse=False)`.
"""

from inspect import signature

import tensorflow.compat.v1 as tf

from dcgan.compute.forward_pass import SAMPLING
from dcgan.training.ema import PREFIX
from dcgan.training.options import DEFAULTS, Options
from dcgan.util.errors import UserError


def original_style(dcgan) -> list[str]:
    """The names of the networks that are written with the original's signatures."""
    kind, names = type(dcgan), ('generator', 'discriminator', 'sampler')
    return [n for n in names if 'how' not in signature(getattr(kind, n)).parameters]


def changes(dcgan) -> list[str]:
    """Names of what a user has changed that the fused iteration would not train."""
    changed, built = original_style(dcgan), dcgan.built_losses
    changed += [] if built and dcgan.d_loss is built.d else ['d_loss']
    changed += [] if built and dcgan.g_loss is built.g else ['g_loss']
    changed += [] if dcgan.after_d_step is None else ['after_d_step']
    # the fused iteration makes no pass over real images in G's steps
    graph, loss = dcgan.g_loss.graph.as_graph_def(), dcgan.g_loss.op.name
    needed = tf.graph_util.extract_sub_graph(graph, [loss]).node
    if not changed and dcgan.D_logits.op.name in {node.name for node in needed}:
        changed.append('g_loss')
    return changed


def print_changes(dcgan) -> bool:
    """Print what a user has changed, and turn XLA off; returns whether that is so."""
    changed = ', '.join(changes(dcgan))
    if not changed:
        return False
    how = "by several runs of the session, as the original's, which are slower"
    print(f' [*] {type(dcgan).__name__} has changed {changed}: it is trained {how}')
    networks = ', '.join(original_style(dcgan))
    if networks and dcgan.how.dtype != tf.float32:
        print(f' [!] --precision does not change {networks}: they compute in float32')
    if dcgan.xla:
        print(' [!] XLA is off: it compiles an unchanged iteration only')
        dcgan.xla = False
    return True


def check_options(dcgan, options: Options) -> None:
    """Raise UserError for options that need the networks and losses of model.py."""
    name, changed = type(dcgan).__name__, ', '.join(changes(dcgan))
    names = ('r1', 'd_dropout', 'label_smoothing', 'augment')
    values = {n: getattr(options, n) for n in names}
    values, usual = values | {'workers': dcgan.workers.count}, DEFAULTS | {'workers': 1}
    told = {n: x if n == 'augment' else f'{x:g}' for n, x in values.items()}
    given = {n: f'--{n} {told[n]}' for n, x in values.items() if x != usual[n]}
    if changed and given:
        problem = f'cannot be used with {name}, which has changed {changed}'
        raise UserError(f'{next(iter(given.values()))}: {problem}; leave it out')
    smoothing = given.get('label_smoothing')
    if smoothing and 'real_label' not in signature(dcgan.losses).parameters:
        problem = f'{name}.losses has no parameter real_label'
        raise UserError(f'{smoothing}: {problem}; add it, or leave the flag out')


def check(dcgan) -> None:
    """Raise UserError for a model that cannot be built in this graph."""
    if tf.global_variables('(generator|discriminator)/'):
        problem = 'this graph has a DCGAN already'
        raise UserError(f'{problem}; build each one in a separate tf.Graph()')
    written = original_style(dcgan)
    if 'generator' in written and 'sampler' not in written:
        problem = 'overrides generator, but not sampler, which draws the samples'
        raise UserError(f'{type(dcgan).__name__} {problem}; override both')


def finish(dcgan) -> None:
    """Add to what build_model has built: variables, saver, sampler_y, sampler_bytes."""
    if dcgan.ema and not dcgan.averages:
        build = f'{type(dcgan).__name__}.build_model'
        raise UserError(f'--ema {dcgan.ema:g}: {build} makes no averages; leave it out')
    dcgan.variables = tf.global_variables(f'(?!{PREFIX})')
    if dcgan.sampler_y is None:
        dcgan.sampler_y = dcgan.y
    dcgan.sampler_bytes = bytes_and_floats(dcgan, dcgan.sampler)['images']
    dcgan.saver = tf.train.Saver(dcgan.variables, max_to_keep=dcgan.max_to_keep)


def bytes_and_floats(dcgan, sampled: tf.Tensor) -> dict[str, tf.Tensor]:
    """Images of the sampler as 0 to 255, which are fetched faster, and in [0, 1]."""
    unit = sampled if dcgan.y_dim else (sampled + 1.0) / 2.0
    return {'images': tf.cast(tf.rint(unit * 255.0), tf.uint8), 'floats': unit}


def fixed_batch(dcgan) -> int | None:
    """The batch that a sampler in the original's style may need; None: any will do.

    The shapes of its images need not tell it.
    """
    return dcgan.batch_size if original_style(dcgan) else None


def discriminate(dcgan, images, y, flag: str, hook=None, needs_layers=True) -> tuple:
    """D's hidden layers, through `hook`, and its logits [n], by moving averages.

    Raises UserError, which names `flag`, if D is not there or its layers are unknown.
    """
    problem, layers, name = '', [], type(dcgan).__name__
    how = SAMPLING._replace(dropout=hook, probe=layers.append)
    if 'discriminator' in original_style(dcgan):
        problem = f'{name} overrides discriminator, whose layers are unknown'
    elif len(dcgan.sess.run(tf.report_uninitialized_variables(dcgan.variables))):
        problem = 'this checkpoint has no discriminator'
    else:
        _, logits = dcgan.discriminator(images, y, reuse=True, how=how)
        if needs_layers and not layers:
            problem = f'{name}.discriminator never calls how.hidden'
    if problem:
        raise UserError(f'{flag}: {problem}; leave it out')
    return layers, logits[:, 0]
