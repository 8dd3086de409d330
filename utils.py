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
    'timestamp',
    'visualize',
]
