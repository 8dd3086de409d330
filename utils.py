"""Offer the original's helpers, under its names.

Images as arrays are [h, w, 3] or, in grayscale, [h, w].
"""
# ruff: noqa: F401, because users import these names from here

import json
import math
import os
import pprint
import random
import time
from time import gmtime, strftime

import numpy as np
import scipy
from PIL import Image
from six.moves import xrange

from dcgan.data.image_grids import (
    image_manifold_size,
    imsave,
    inverse_transform,
    make_gif,
    merge,
    save_images,
)
from dcgan.data.images import bytescale, center_slice, imread, resize
from dcgan.sampling.visualize import visualize
from dcgan.training.older_code import older_arguments, older_keywords, to_json
from dcgan.util.files import expand_path, timestamp
from dcgan.util.z import gen_random

pp = pprint.PrettyPrinter()
imread = older_keywords(imread)


@older_arguments
def get_image(
    image_path,
    input_height,
    input_width=None,
    resize_height=64,
    resize_width=64,
    crop=True,
    grayscale=False,
):
    """Read an image file and `transform` it. Raises UserError if it is not an image."""
    sizes = input_height, input_width, resize_height, resize_width
    return transform(imread(image_path, grayscale), *sizes, crop)


@older_arguments
def transform(
    image, input_height, input_width=None, resize_height=64, resize_width=64, crop=True
):
    """Crop, if set, and resize an image in [0, 255]: float64 [h, w(, 3)] in [-1, 1]."""
    size = resize_height, resize_width
    if crop:
        image = center_crop(image, input_height, input_width, *size)
    elif resize_height:  # otherwise, as in 2016, it keeps its size
        image = imresize(image, *size)
    return image / 127.5 - 1.0


def center_crop(x, crop_h, crop_w=None, resize_h=64, resize_w=64):
    """Crop the center of an image and resize it: uint8 [resize_h, resize_w(, 3)]."""
    h, w = x.shape[:2]
    rows, columns = center_slice(h, crop_h), center_slice(w, crop_w or crop_h)
    return imresize(x[rows, columns], resize_h, resize_w)


def imresize(x, height, width):
    """Stretch the contrast of an array image and resize it, as SciPy 1.1 did."""
    return resize(Image.fromarray(bytescale(x)), height, width)


def merge_images(images, size):
    """Map images from [-1, 1] to [0, 1]. `size` is not used, as in the original."""
    return inverse_transform(images)


def get_stddev(x, k_h, k_w):
    """1 / sqrt(k_h * k_w * channels of the tensor x)."""
    return 1 / math.sqrt(k_h * k_w * int(x.shape[-1]))


def show_all_variables():
    """Print name, shape, count and bytes of each trainable variable, and the sums."""
    import tensorflow.compat.v1 as tf  # the other helpers do without it

    print('---------\nVariables: name (type shape) [size]\n---------')
    count = size = 0
    for v in tf.trainable_variables():
        n = int(np.prod(v.shape.as_list()))
        count, size = count + n, size + n * v.dtype.size
        shape = 'x'.join(map(str, v.shape.as_list()))
        print(f'{v.name} ({v.dtype.name} {shape}) [{n}, bytes: {n * v.dtype.size}]')
    print(f'Total size of variables: {count}\nTotal bytes of variables: {size}')
