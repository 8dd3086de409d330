"""Settle how deep and wide the networks are, and tell what they take."""

import math

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

    layers: their number; 'auto', so that the smallest ones are about 4 pixels high and
    wide; or None, 4, and with classes 2. With classes, 2 to this power has to divide
    height and width. Raises UserError if it does not, or if they are too small.
    """
    fewest, shorter = 2, min(size)
    largest = max(fewest, math.ceil(math.log2(shorter)))
    if layers == 'auto':
        count = max(fewest, round(math.log2(shorter / 4)))
        while y_dim and count > fewest and any(n % 2**count for n in size):
            count -= 1
    elif layers is None:
        count = 2 if y_dim else 4
    elif not str(layers).isdecimal() or not fewest <= int(layers) <= largest:
        choice = f'give auto or a number from {fewest} to {largest}'
        raise UserError(
            f'--layers {layers}: {choice}, for images of {size[1]}x{size[0]}'
        )
    else:
        count = int(layers)
    if y_dim and any(n % 2**count for n in size):
        kind = f'the conditional model needs multiples of {2**count}'
        advice = 'change --output_height and --output_width, or --layers'
        raise UserError(f'output size {size[0]}x{size[1]}: {kind}; {advice}')
    return count


def widths(outer: int, layers: int, most: int | None = None) -> list[int]:
    """The filters of layers, which double from an outer one, up to `most` or 8 * outer.

    For four layers: outer, 2 * outer, 4 * outer and 8 * outer, as in the paper.
    """
    return [min(outer * 2**i, most or 8 * outer) for i in range(layers)]


def layer_shapes(height: int, width: int, filters: list[int]) -> list[tuple]:
    """The shapes (h, w, c) of images and of layers, each half as high and wide.

    filters: the c of images, then of each layer
    """
    halves = [2**i for i in range(len(filters))]
    sizes = [[-(-size // n) for n in halves] for size in (height, width)]  # rounded up
    return list(zip(*sizes, filters))
