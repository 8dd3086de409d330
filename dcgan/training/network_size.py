"""Settle how deep and wide the networks are, and tell what they take."""

import math

from dcgan.training import user_model
from dcgan.util.errors import UserError
from dcgan.util.flags import Flag, Group

MODEL = 'model result'
# fmt: off
FLAGS = Group(
    'Networks',
    'widths and depth: --gf_dim, --df_dim, ..., --layers',
    Flag('gf_dim', 64, "Filters of G's last hidden layer", MODEL, least=1),
    Flag('df_dim', 64, "Filters of D's first layer", MODEL, least=1),
    Flag('gfc_dim', 1024, "Units of a conditional G's first layer", MODEL, least=1),
    Flag('dfc_dim', 1024, "Units of a conditional D's dense layer", MODEL, least=1),
    Flag('layers', None, 'Layers that halve or double the size, in each network, or '
         'auto; default: 4, with classes 2', MODEL, type=str),
    Flag('max_filters', None, 'Filters of a layer, at most; default: 8 * --gf_dim and '
         '--df_dim', MODEL, type=int, least=1),
)
# fmt: on


def count_layers(layers, size: tuple[int, int], y_dim: int | None) -> int:
    """The strided layers of each network, for images of a size (height, width).

    layers: their number; None: 4, or 2 with classes; 'auto': as many as make the
    smallest one about 4 pixels high and wide. With classes, height and width have to be
    multiples of 2 to this power. Raises UserError if they are not, or are too small.
    """
    most, common = max(4, (min(size) - 1).bit_length()), math.gcd(*size)
    if layers is None:
        layers = 2 if y_dim else 4
    elif layers == 'auto':
        layers = max(2, round(math.log2(min(size) / 4)))
        while y_dim and layers > 2 and common % 2**layers:
            layers -= 1
    elif not str(layers).isdecimal() or not 2 <= int(layers) <= most:
        choice = f'give auto or a number from 2 to {most} for {size[0]}x{size[1]}'
        raise UserError(f'--layers {layers}: {choice}')
    count = int(layers)
    if y_dim and common % 2**count:
        kind = f'the conditional model needs multiples of {2**count}'
        advice = 'change --output_height and --output_width, or --layers'
        raise UserError(f'output size {size[0]}x{size[1]}: {kind}; {advice}')
    return count


def layer_filters(outer: int, layers: int, most: int | None = None) -> list[int]:
    """The filters of layers: `outer` of the first, doubled up to `most` or 8 * outer.

    For four layers: outer, 2 * outer, 4 * outer and 8 * outer, as in the paper.
    """
    return [min(outer * 2**i, most or 8 * outer) for i in range(layers)]


def layer_shapes(height: int, width: int, filters: list[int]) -> list[tuple]:
    """(h, w, c) of G's layers, from the smallest one, and of the images at the end.

    filters: the channels of images, then of each layer, the largest first
    """
    shapes = [(-(-height // 2**i), -(-width // 2**i), c) for i, c in enumerate(filters)]
    return shapes[::-1]  # sizes are rounded up


def requirements(dcgan, config) -> tuple[int, int, float]:
    """The parameters of G and of D, and the GB of memory at the peak of training.

    On a CPU, within 15%: 0.65 GB of TensorFlow, six numbers for each parameter (with
    its gradient and Adam's moments) or, in dense layers, four; and 11 bytes for each
    number that goes through a layer in D's update: in a pass of G and in two of D; in
    bfloat16, too. R1 takes two more.
    """
    size, counts, passed = (dcgan.output_height, dcgan.output_width), [], []
    for variables in dcgan.g_vars, dcgan.d_vars:
        filters = sorted(v.shape[3] for v in variables if v.shape.ndims == 4)
        passed.append(sum(map(math.prod, layer_shapes(*size, [dcgan.c_dim, *filters]))))
        counts.append(sum(v.shape.num_elements() for v in variables))
    dense = [v for v in [*dcgan.g_vars, *dcgan.d_vars] if v.shape.ndims == 2]
    numbers = 6 * sum(counts) - 2 * sum(v.shape.num_elements() for v in dense)
    numbers += bool(dcgan.ema) * counts[0]
    passes = passed[0] + (4 if config.r1 else 2) * passed[1]
    batch = dcgan.workers.split_batch(dcgan.batch_size)
    return *counts, 0.65 + 1e-9 * (4 * numbers + 11 * batch * passes)


def size_line(dcgan, config) -> str:
    """Tell the parameters and, unless a user has changed the model, the memory."""
    *counts, peak = requirements(dcgan, config)
    g, d, both = (f'{n / 1e6:.1f}' for n in (*counts, sum(counts)))
    told = '' if user_model.changes(dcgan) else f', about {peak:.1f} GB of memory'
    return f' [*] {both} million parameters (G {g}, D {d}){told}'
