"""Offer what code written for older versions of the original uses, under its names."""

import functools
import json
import re
from collections.abc import Callable

import numpy as np

from dcgan.data.labels import one_hot
from dcgan.util.files import write_bytes

# older names of parameters and of DCGAN's attributes, and today's
OLDER = {
    'is_crop': ['crop'],
    'is_grayscale': ['grayscale'],
    'image_size': ['input_height', 'input_width'],
    'npx': ['input_height'],
    'output_size': ['output_height', 'output_width'],
    'resize_w': ['resize_height', 'resize_width'],
    'sample_size': ['sample_num'],
    'images': ['inputs'],
}


def older_keywords(function: Callable) -> Callable:
    """Decorate a function that shall take older names of its parameters, too."""

    @functools.wraps(function)
    def call(*args, **given):
        for name in given.keys() & OLDER:
            given |= dict.fromkeys(OLDER[name], given.pop(name))
        return function(*args, **given)

    return call


def older_arguments(helper: Callable) -> Callable:
    """Decorate get_image or transform: they shall take the arguments of 2016, too.

    These were (image, image_size, is_crop=True, resize_w=64, is_grayscale=False), and
    an image that was not cropped kept its size and its contrast.
    """

    @functools.wraps(helper)
    def call(*args, **given):
        is_short = len(args) < 3 and not any('_width' in name for name in given)
        is_of_2016 = 'resize_w' in given or ('is_crop' in given and is_short)
        if len(args) > 2 and isinstance(args[2], (bool, np.bool_)):
            is_of_2016, names = True, ['is_crop', 'resize_w', 'is_grayscale']
            args, given = args[:2], {**dict(zip(names, args[2:])), **given}
        if is_of_2016 and not given.get('is_crop', True):
            given['resize_w'] = None  # keep the size
        return older_keywords(helper)(*args, **given)

    return call


def to_json(output_path: str, *layers: tuple) -> None:
    """Write layers of a generator as JavaScript: var layer_0 = {...}; and so on.

    A layer is (weights, biases, batch_norm or None), the first two variables of
    ops.linear or ops.deconv2d. Needs a default session. Numbers have two decimals.
    """
    text = ''
    for weights, biases, bn in layers:
        number = int(re.search(r'_h(\d+)', weights.name)[1])
        values, is_dense = weights.eval(), len(weights.shape) == 2
        side, size = (1, 1) if is_dense else (2 ** (number + 2), len(values))
        filters = values.T if is_dense else np.moveaxis(values, 2, 0)
        scales = (bn.gamma.eval(), bn.beta.eval()) if bn else 2 * [np.zeros(0)]
        layer = {'layer_type': 'fc' if is_dense else 'deconv', 'sx': size, 'sy': size}
        layer |= {'out_sx': side, 'out_sy': side, 'out_depth': len(filters)}
        layer |= {'stride': 2 - is_dense, 'pad': 1 - is_dense}
        layer |= {'in_depth': filters.shape[-1], 'biases': _volume(biases.eval())}
        layer |= dict(zip(['gamma', 'beta'], map(_volume, scales)))
        layer |= {'filters': [_volume(f, size) for f in filters]}
        text += f'var layer_{number} = {json.dumps(layer)};\n'
    write_bytes(output_path, text.encode())


def _volume(array, size=1):
    rounded = np.round(np.float64(array), 2).ravel().tolist()
    return {'sx': size, 'sy': size, 'depth': len(rounded) // size**2, 'w': rounded}


class OlderAttributes:
    """Attributes of the original's DCGAN that code outside of it reads."""

    writer = None  # of the summaries of the last training

    def __getattr__(self, name):
        if name in ('data_X', 'data_y') and self.y_dim:
            self.data_X, self.data_y = self.load_mnist()
            return getattr(self, name)
        if name in OLDER:
            return getattr(self, OLDER[name][0])
        raise AttributeError(f'{type(self).__name__} has no attribute {name}')

    @property
    def model_dir(self) -> str:
        """The folder of its checkpoints in checkpoint_dir, until July 2018."""
        sizes = self.batch_size, self.output_height, self.output_width
        return '_'.join(map(str, (self.dataset_name, *sizes)))

    def load_mnist(self) -> tuple[np.ndarray, np.ndarray]:
        """Images [n, h, w, c] in [0, 1] and one-hot labels [n, y_dim], all float32."""
        images, labels = self.data.take(self.data.order)
        return np.float32(images) / 255, one_hot(labels, self.y_dim)
