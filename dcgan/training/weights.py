"""Load a model's weights from a checkpoint, also of older versions and of forks."""

import math
import os
import re

import tensorflow.compat.v1 as tf

from dcgan.training import checkpoints
from dcgan.training.network_size import layer_filters
from dcgan.util.errors import UserError, printable
from dcgan.util.output import print_line


class Loaded(tuple):
    """(whether a checkpoint is loaded, its step). In 2016, load returned a bool."""

    def __bool__(self):
        return self[0]


# batch norm's averages in the first pass; versions of TensorFlow name the ops otherwise
MOMENTS = r'^((?:generator/|discriminator/)?[gd]_bn\d)/(?:\1/)?moments/(?:\w+/)?'
AVERAGE = '/ExponentialMovingAverage$'
# (pattern in an older name, what is there today, variables that the row needs, one that
# it must not find); a row applies to what the rows above it have left
OLDER_NAMES = (
    # to December 2016: batch norm and its averages were made of single ops
    (f'{MOMENTS}(mean|Squeeze){AVERAGE}', r'\1/moving_mean', (), ''),
    (f'{MOMENTS}(variance|Squeeze_1){AVERAGE}', r'\1/moving_variance', (), ''),
    # to December 2016: the networks had no scopes
    (r'^(?=g_(h|bn)\d)', 'generator/', (), ''),
    (r'^(?=d_(h|bn)\d)', 'discriminator/', (), ''),
    # to June 2017; a conditional D has d_h3_lin today, and no d_h3_conv
    ('/d_h3_lin/', '/d_h4_lin/', ('discriminator/d_h3_conv/w',), ''),
    # dcgan-completion.tensorflow: the batch norms of D count from 0
    (
        r'(?<=^discriminator/d_bn)\d',
        lambda match: str(int(match[0]) + 1),
        ('discriminator/d_h3_conv/w', 'discriminator/d_bn0/gamma'),
        'discriminator/d_bn3/gamma',
    ),
)
OURS = 'training/', 'ema/'  # of checkpoints of this project
LAYER = re.compile(r'(generator/g|discriminator/d)_h\d\w*/\w+')
ADAM = re.compile(r'/Adam(_1)?$|^beta[12]_power(_1)?$')


def todays_names(path: str) -> dict[str, str]:
    """{today's name: name in a checkpoint}. UserError if a variable has two names."""
    names = {name: name for name in checkpoints.checkpoint_shapes(path)}
    for pattern, todays, beside, unless in OLDER_NAMES:
        if {*beside} <= {*names.values()} and unless not in names.values():
            names = {s: re.sub(pattern, todays, name) for s, name in names.items()}
    found: dict[str, str] = {}
    for name, todays in sorted(names.items()):
        if found.setdefault(todays, name) != name:
            both = f'{found[todays]} and {name}'
            raise UserError(f'{path}: has both {both}, two names of {todays}')
    return found


class Shapes(dict[str, list[int]]):
    """{today's name of a variable: shape} of a checkpoint."""

    def __init__(self, path: str):
        self.path, shapes = path, checkpoints.checkpoint_shapes(path)
        super().__init__((n, shapes[s]) for n, s in todays_names(path).items())

    def __missing__(self, name):
        raise UserError(f'{self.path}: not a checkpoint of a DCGAN, it has no {name!r}')


def checkpoint_dims(path: str) -> tuple[int | None, int]:
    """(y_dim or None, c_dim) of the G in a checkpoint, by its variables' shapes."""
    shapes = Shapes(path)
    c_dim = shapes[f'generator/g_h{_last_layer(shapes)}/biases'][0]
    if matrix := shapes.get('generator/g_h1_lin/Matrix'):
        return matrix[0] - shapes['generator/g_h0_lin/bias'][0], c_dim
    return None, c_dim


def _last_layer(shapes):
    numbers = re.findall(r'generator/g_h([2-9]|\d\d+)/biases', ' '.join(shapes))
    return max(map(int, numbers), default=4)


def model_settings(path: str) -> dict[str, int | str]:
    """The flags of a model, by its variables' shapes in a checkpoint of a DCGAN.

    Height and width are told only of square images, as the largest with these shapes;
    widths of D only if it is there, and max_filters only if it is not the default.
    """
    (y_dim, _), shapes = checkpoint_dims(path), Shapes(path)
    y, first, last = y_dim or 0, 2 if y_dim else 1, _last_layer(shapes)
    layers = last - first + 1  # of G, from g_h{first} to g_h{last}
    # what goes into these two; with classes, gf_dim is half of outer, rounded up
    inner, outer = (shapes[f'generator/g_h{n}/w'][3] - y for n in (first, last))
    settings = {'z_dim': shapes['generator/g_h0_lin/Matrix'][0] - y}
    settings |= {'layers': str(layers), 'gf_dim': -(-outer // 2) if y_dim else outer}
    widest = {'gf_dim': (inner, layers)}
    if width := shapes.get(f'discriminator/d_h{first - 1}_conv/biases'):
        settings['df_dim'] = width[0] - y
        if width := shapes.get(f'discriminator/d_h{layers - 1}_conv/biases'):
            widest['df_dim'] = width[0] - y, layers - bool(y_dim)
    if y_dim:
        settings['gfc_dim'] = shapes['generator/g_h0_lin/bias'][0]
        if width := shapes.get(f'discriminator/d_h{layers}_lin/bias'):
            settings['dfc_dim'] = width[0]
    for dim, (filters, count) in widest.items():
        if filters != layer_filters(settings[dim], count)[-1]:
            settings['max_filters'] = filters
    units = shapes[f'generator/g_h{first - 1}_lin/bias'][0]
    side = math.isqrt(units // inner)
    if side**2 * inner == units:
        settings['output_height'] = settings['output_width'] = 2**layers * side
    return settings


def check_weights(path: str, variables: list, needs_d: bool = True) -> list[str]:
    """Raise UserError if a checkpoint lacks variables, or has them in other shapes.

    Unless `needs_d`, D may be missing, or be of another depth. Returns the names of
    the variables that are missing.
    """
    names, shapes, missing = todays_names(path), Shapes(path), []
    of_model = {variable.op.name: variable.shape.as_list() for variable in variables}
    layers = [name for name in names if LAYER.fullmatch(name)]
    others = [name for name in layers if name not in of_model]
    is_other_d = any(name.startswith('discriminator/') for name in others)
    for name, shape in of_model.items():
        found = shapes.get(name)
        # to December 2016, dense layers had one average for all units
        if found == shape or (found == [] and '/moving_' in name):
            continue
        can_differ = is_other_d or not (needs_d or name.endswith('_lin/Matrix'))
        if name.startswith('discriminator/') and (found is None or can_differ):
            missing.append(name)
            continue
        stored = f'no {name}' if found is None else f'{names[name]} {found}'
        raise UserError(
            f'{path} has {stored}, but the flags give {name} {shape}: check '
            '--dataset, --z_dim, --output_height, --output_width, --grayscale, '
            '--conditional, --unconditional, --layers, --max_filters, --gf_dim, '
            '--df_dim, --gfc_dim and --dfc_dim'
        )
    if of_g := [names[name] for name in others if name.startswith('generator/')]:
        problem = f'has {of_g[0]}, so G is another network'
        raise UserError(f'{path}: {problem}; check --layers')
    if missing and needs_d:
        problem = f'cannot be used by --train, because it {_describe(missing, layers)}'
        raise UserError(f'{path}: {problem}; it can only draw samples')
    return missing


def _describe(missing, layers):
    if not any(name.startswith('discriminator/') for name in layers):
        return 'has no discriminator'
    return f'has a discriminator of another depth or shape, without {_some(missing)}'


def _some(names, most=3):
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return printable(', '.join(names[:most])) + more


def load_weights(sess: tf.Session, variables: list[tf.Variable], path: str) -> None:
    """Set a model's variables to what a checkpoint holds; print what it has besides.

    Where it has no D, that keeps its values. Raises UserError as check_weights does.
    """
    missing = check_weights(path, variables, needs_d=False)
    names, of_model = todays_names(path), {v.op.name: v for v in variables}
    known = [name for name in of_model if name in names and name not in missing]
    checkpoints.set_variables(sess, [of_model[name] for name in known], path, names)
    print_line(f' [*] Read {path}')
    if renamed := [f'{names[n]} as {n}' for n in known if names[n] != n]:
        print(f' [*] Variables with older names are read: {_some(renamed)}')
    others = [stored for name, stored in names.items() if name not in of_model]
    if unknown := [n for n in others if not (ADAM.search(n) or n.startswith(OURS))]:
        print(f' [!] Unknown variables are ignored: {_some(unknown, 5)}')
    if missing:
        print(f' [!] It {_describe(missing, names)}: it can only draw samples')


def load_adam(sess: tf.Session, path: str) -> bool:
    """Set Adam's moments and powers if a checkpoint has them all; returns whether."""
    shapes = Shapes(path)
    adam = [v for v in tf.global_variables() if ADAM.search(v.op.name)]
    if has_all := all(shapes.get(v.op.name) == v.shape.as_list() for v in adam):
        checkpoints.set_variables(sess, adam, path, todays_names(path))
    return has_all


def load_newest(dcgan, checkpoint_dir, step=None, path=None):
    """Load `path`, or what newest_checkpoint finds. Returns Loaded; or UserError."""
    inner = os.path.join(checkpoint_dir, dcgan.model_dir)  # to July 2018
    if not checkpoints.index_files(checkpoint_dir) and checkpoints.index_files(inner):
        checkpoint_dir = inner
    path = path or checkpoints.newest_checkpoint(checkpoint_dir, step)
    if path is None:
        print_line(f' [*] No checkpoint yet in {checkpoint_dir}')
        return Loaded([False, 0])

    def load(path):
        load_weights(dcgan.sess, dcgan.variables, path)
        if dcgan.averages:
            dcgan.averages.restore(dcgan.sess, path)
        return Loaded([True, checkpoints.step_of(path)])

    return checkpoints.read_usable(load, checkpoint_dir, step, path)
