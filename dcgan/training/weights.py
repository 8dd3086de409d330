"""Load a model's weights from a checkpoint, also of older versions and of forks."""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.training.checkpoints import (
    TRIES,
    checkpoint_shapes,
    index_of,
    newest_checkpoint,
    reading,
)
from dcgan.util.errors import UserError, printable


class Older(NamedTuple):
    """A pattern in older names of variables, and what is there today, as in re.sub."""

    pattern: str
    todays: str | Callable[[re.Match], str]
    beside: str = ''  # a variable without which the row does not apply
    unless: str = ''  # a variable with which it does not apply


class Loaded(NamedTuple):
    """What DCGAN.load returns. In 2016, it was a bool; as such, it is is_loaded."""

    is_loaded: bool
    step: int

    def __bool__(self):
        return self.is_loaded


# batch norm's averages in the first pass; versions of TensorFlow name the ops otherwise
MOMENTS = r'^((?:generator/|discriminator/)?[gd]_bn\d)/(?:\1/)?moments/(?:\w+/)?'
AVERAGE = '/ExponentialMovingAverage$'
# Each row applies to the names that the rows above it have left.
OLDER_NAMES = (
    # to December 2016: batch norm and its averages were made of single ops
    Older(f'{MOMENTS}(mean|Squeeze){AVERAGE}', r'\1/moving_mean'),
    Older(f'{MOMENTS}(variance|Squeeze_1){AVERAGE}', r'\1/moving_variance'),
    # to December 2016: the networks had no scopes
    Older(r'^(?=g_(h|bn)\d)', 'generator/'),
    Older(r'^(?=d_(h|bn)\d)', 'discriminator/'),
    # to June 2017; a conditional D has d_h3_lin today, and no d_h3_conv
    Older('/d_h3_lin/', '/d_h4_lin/', beside='discriminator/d_h3_conv/w'),
    # dcgan-completion.tensorflow: the batch norms of D count from 0
    Older(
        r'(?<=^discriminator/d_bn)\d',
        lambda match: str(int(match[0]) + 1),
        beside='discriminator/d_bn0/gamma',
        unless='discriminator/d_bn3/gamma',
    ),
)
# variables in checkpoints that are no weights, but of the training
TRAINING = re.compile(r'.*/Adam(_1)?$|beta[12]_power(_1)?$|(training|ema)/')
NETWORKS = {'discriminator': '', 'generator': '_1'}  # and what their powers end in


@functools.lru_cache(maxsize=1)
def _todays_names(path, stored):
    names = {name: name for name in stored}
    for pattern, todays, beside, unless in OLDER_NAMES:
        if (not beside or beside in names.values()) and unless not in names.values():
            names = {s: re.sub(pattern, todays, name) for s, name in names.items()}
    found: dict[str, str] = {}
    for name, todays in sorted(names.items()):
        if found.setdefault(todays, name) != name:
            raise UserError(
                f'{path}: has both {found[todays]} and {name}, which are two names of '
                f'{todays}'
            )
    return found


def todays_names(path: str) -> dict[str, str]:
    """{today's name: name in a checkpoint} of its variables.

    Raises UserError if it is unreadable, or has two names of one variable.
    """
    return _todays_names(path, tuple(checkpoint_shapes(path)))


def weight_shapes(path: str) -> dict[str, list[int]]:
    """{today's name of a variable: shape} of a checkpoint."""
    shapes = checkpoint_shapes(path)
    return {todays: shapes[name] for todays, name in todays_names(path).items()}


@contextlib.contextmanager
def _shapes_of_dcgan(path) -> Iterator[dict]:
    """Yield weight_shapes; UserError where it lacks what the block looks up."""
    try:
        yield weight_shapes(path)
    except KeyError as missing:
        raise UserError(
            f'{path}: not a checkpoint of a DCGAN, it has no {missing}'
        ) from missing


def checkpoint_dims(path: str) -> tuple[int | None, int]:
    """(y_dim or None, c_dim) of the G in a checkpoint, by its variables' shapes."""
    with _shapes_of_dcgan(path) as shapes:
        if 'generator/g_h4/biases' in shapes:
            return None, shapes['generator/g_h4/biases'][0]
        c_dim = shapes['generator/g_h3/biases'][0]
        *_, out, inputs = shapes['generator/g_h2/w']
        return inputs - out, c_dim


def model_settings(path: str) -> dict[str, int]:
    """The flags of a model, by its variables' shapes in a checkpoint of a DCGAN.

    Height and width are told only of square images: as the largest with these shapes.
    The widths of D are told only if it is there.
    """
    y_dim, _ = checkpoint_dims(path)
    y, cells = y_dim or 0, 4 if y_dim else 16
    with _shapes_of_dcgan(path) as shapes:
        inputs, units = shapes['generator/g_h0_lin/Matrix']
        settings = {'z_dim': inputs - y}
        d_layers = {'df_dim': 'd_h0_conv/biases'}
        if y_dim:
            settings['gf_dim'] = shapes['generator/g_h2/biases'][0] // 2
            settings['gfc_dim'] = units
            d_layers = {'df_dim': 'd_h1_conv/biases', 'dfc_dim': 'd_h2_lin/bias'}
            units = shapes['generator/g_h1_lin/bias'][0] // (2 * settings['gf_dim'])
        else:
            settings['gf_dim'] = shapes['generator/g_h3/biases'][0]
            units //= 8 * settings['gf_dim']
        for flag, name in d_layers.items():
            if width := shapes.get(f'discriminator/{name}'):
                settings[flag] = width[0] - (y if flag == 'df_dim' else 0)
    side = math.isqrt(units)
    if side**2 == units:
        settings['output_height'] = settings['output_width'] = cells * side
    return settings


def check_weights(
    path: str, variables: list[tf.Variable], needs_d: bool = True
) -> list[str]:
    """Raise UserError if a checkpoint lacks variables, or has them in other shapes.

    Variables of D may be missing, unless `needs_d`; returns their names.
    """
    names, shapes, missing = todays_names(path), checkpoint_shapes(path), []
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        stored = names.get(name)
        if stored is None and name.startswith('discriminator/'):
            missing.append(name)
        elif stored is None or not _fits(shapes[stored], variable):
            found = f'no {name}' if stored is None else f'{stored} {shapes[stored]}'
            raise UserError(
                f'{path} has {found}, but the flags give {name} {shape}: check '
                '--dataset, --z_dim, --output_height, --output_width, --grayscale, '
                '--conditional, --unconditional, --gf_dim, --df_dim, --gfc_dim and '
                '--dfc_dim'
            )
    if missing and needs_d:
        raise UserError(
            f'{path}: cannot be used by --train and --encode, because it '
            f'{_describe_missing(missing, names)}; it can only draw samples'
        )
    return missing


def _fits(shape, variable):
    # to December 2016, dense layers had one average for all units
    is_average = '/moving_' in variable.op.name
    return shape == variable.shape.as_list() or (is_average and shape == [])


def _describe_missing(missing, names):
    if not any(name.startswith('discriminator/') for name in names):
        return 'has no discriminator'
    last = 'discriminator/d_h3_lin/bias'  # of an unconditional D of another depth
    is_other = last in names and 'discriminator/d_h3_conv/w' in missing
    depth = ': its discriminator has another depth' if is_other else ''
    return f'has no {_some(missing)}{depth}'


def _some(names, most=3):
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return printable(', '.join(names[:most])) + more


def load_weights(sess: tf.Session, variables: list[tf.Variable], path: str) -> None:
    """Set a model's variables to what a checkpoint holds; print what it has besides.

    Where it has no D, that keeps its values. Raises UserError as check_weights does.
    """
    missing = check_weights(path, variables, needs_d=False)
    names = todays_names(path)
    of_model = {variable.op.name: variable for variable in variables}
    _set_variables(sess, [of_model[n] for n in of_model if n in names], path)
    print(f' [*] Read {path}')
    renamed = [
        f'{old} as {n}' for n, old in names.items() if n in of_model and old != n
    ]
    if renamed:
        print(f' [*] Variables with older names are read: {_some(renamed)}')
    others = [names[name] for name in names if name not in of_model]
    if unknown := [name for name in others if not TRAINING.match(name)]:
        print(f' [!] Unknown variables are ignored: {_some(sorted(unknown), 5)}')
    if missing:
        print(f' [!] It {_describe_missing(missing, names)}: it can only draw samples')


def load_adam(sess: tf.Session, path: str) -> list[str]:
    """Set Adam's moments, where a checkpoint has all of a network; returns NETWORKS."""
    names, loaded = todays_names(path), []
    for network, ending in NETWORKS.items():
        pattern = rf'{network}/.*/Adam(_1)?|beta[12]_power{ending}'
        found = [v for v in tf.global_variables() if re.fullmatch(pattern, v.op.name)]
        if all(variable.op.name in names for variable in found):
            _set_variables(sess, found, path)
            loaded.append(network)
    return loaded


def _set_variables(sess, variables, path):
    names, feed = todays_names(path), {}
    with reading(path) as reader:
        for variable in variables:
            value = reader.get_tensor(names[variable.op.name])
            initial = variable.initializer.inputs[1]
            feed[initial] = np.broadcast_to(value, variable.shape)
    sess.run([variable.initializer for variable in variables], feed)


def load_newest(
    dcgan, checkpoint_dir, step=None, path=None, tries: int = TRIES
) -> str | None:
    """Load `path`, or what newest_checkpoint finds; returns its path prefix, if any.

    Raises UserError where it cannot be read or is of another model.
    """
    path = path or newest_checkpoint(checkpoint_dir, step)
    if path is None:
        print(f' [*] No checkpoint yet in {checkpoint_dir}')
        return None
    try:
        load_weights(dcgan.sess, dcgan.variables, path)
        if dcgan.averages:
            dcgan.averages.restore(dcgan.sess, path)
        return path
    except UserError:
        if index_of(path) or tries == 1:
            raise
        # a run that is training has replaced it
        return load_newest(dcgan, checkpoint_dir, step, tries=tries - 1)
