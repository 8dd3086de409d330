"""The original's helpers, by their names."""

from dcgan.files import expand_path, timestamp
from dcgan.images import (
    center_crop,
    get_image,
    image_manifold_size,
    imread,
    inverse_transform,
    make_gif,
    merge,
    save_images,
)
from dcgan.samples import gen_random, visualize

__all__ = [
    'center_crop',
    'expand_path',
    'gen_random',
    'get_image',
    'image_manifold_size',
    'imread',
    'inverse_transform',
    'make_gif',
    'merge',
    'save_images',
    'show_all_variables',
    'timestamp',
    'visualize',
]


def show_all_variables():
    """Print name, shape, count and bytes of each trainable variable, and the sums."""
    import tensorflow.compat.v1 as tf  # the other helpers do without it

    print('---------\nVariables: name (type shape) [size]\n---------')
    count = size = 0
    for v in tf.trainable_variables():
        n = v.shape.num_elements()
        count, size = count + n, size + n * v.dtype.size
        shape = 'x'.join(map(str, v.shape.as_list()))
        print(f'{v.name} ({v.dtype.name} {shape}) [{n}, bytes: {n * v.dtype.size}]')
    print(f'Total size of variables: {count}\nTotal bytes of variables: {size}')
