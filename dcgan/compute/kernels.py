"""Compute the layers: by faster kernels on CPUs, elsewhere by TensorFlow's own ops.

For some shapes, oneDNN's CPU convolutions are much slower than a matrix multiplication
that adds up the same terms. Times in comments are of 64x64 pixels, a batch of 64 and 2
cores of an AMD EPYC. TensorFlow's own ops, the reference, also serve for kernels or
strides that are not square, and if the environment variable DCGAN_PLAIN_OPS is 1.
Filters `w` are [k, k, channels of the larger image, channels of the smaller image].
Layers work in the type of `x`, float32 or bfloat16; weights and biases are float32.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu
from dcgan.compute.gradients import custom_gradient

MAX_SUBPIXEL_CHANNELS = 16  # of output: transposed convolution as a convolution
MAX_MATMUL_PIXELS = 16  # of the smaller image: matrix multiplications
MAX_MATMUL_PIXELS_BFLOAT16 = 256  # likewise, for filter gradients of more channels
MAX_LABELS = 16  # that convolutions treat apart from the images
_only_tensorflow_ops = os.environ.get('DCGAN_PLAIN_OPS') == '1'
_casts: dict = {}  # {reference to a variable: its cast, or None}, of shared_casts


@contextlib.contextmanager
def tensorflow_ops() -> Iterator[None]:
    """Build the layers in this block from TensorFlow's own ops alone."""
    global _only_tensorflow_ops
    before, _only_tensorflow_ops = _only_tensorflow_ops, True
    try:
        yield
    finally:
        _only_tensorflow_ops = before


@contextlib.contextmanager
def shared_casts(casts: dict) -> Iterator[None]:
    """Let all layers that are built in blocks with these casts share them.

    `casts` is {reference to a variable: its cast, or None before the first layer}. The
    variables must keep their values between these layers.
    """
    global _casts
    before, _casts = _casts, casts
    try:
        yield
    finally:
        _casts = before


def cast(w: tf.Variable | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Weights in the type of a layer, cast once within shared_casts."""
    if w.dtype == dtype or w.ref() not in _casts:
        return tf.cast(tf.convert_to_tensor(w), dtype)  # tf.cast may return a variable
    if _casts[w.ref()] is None:
        _casts[w.ref()] = tf.cast(w, dtype)
    return _casts[w.ref()]


def conv2d(x: tf.Tensor, w, biases, strides: list[int]) -> tf.Tensor:
    """SAME convolution plus biases: [B, h, w, c] -> [B, ceil(h / stride), ..., d]."""
    if not _is_fast(w, strides):
        w, biases = cast(w, x.dtype), cast(biases, x.dtype)
        return tf.nn.bias_add(tf.nn.conv2d(x, w, strides, 'SAME'), biases)
    stride = strides[0]

    def input_gradient(x, w, dy):
        sizes = enumerate([None, *x.shape.as_list()[1:]])
        shape = [tf.shape(x)[i] if size is None else size for i, size in sizes]
        return _conv2d_transpose(dy, w, shape, stride)

    def layer(x, w, biases, batch):
        return _with_gradients(
            lambda x, w: _conv2d(x, w, stride),
            input_gradient,
            lambda x, w, dy: _filter_gradient(x, dy, w.shape, stride),
            *(x, w, biases),
        )

    return _with_labels(layer, x, w, biases, axis=2)


def conv2d_transpose(x: tf.Tensor, w, biases, output_shape, strides) -> tf.Tensor:
    """The transpose of conv2d, plus biases: [B, h', w', d] -> output_shape.

    output_shape is [B, h, w, c], ints or tensors, with ceil(h / strides[0]) == h'.
    """
    # as TensorFlow 1 has them in the shape of a tensor
    output_shape = [n.value if isinstance(n, tf.Dimension) else n for n in output_shape]
    if not _is_fast(w, strides):
        w, biases = cast(w, x.dtype), cast(biases, x.dtype)
        y = tf.nn.conv2d_transpose(x, w, output_shape, strides, 'SAME')
        return tf.nn.bias_add(y, biases)
    stride = strides[0]

    def layer(x, w, biases, batch):
        shape = [batch or output_shape[0], *output_shape[1:]]
        return _with_gradients(
            lambda x, w: _conv2d_transpose(x, w, shape, stride),
            lambda x, w, dy: _conv2d(dy, w, stride),
            lambda x, w, dy: _filter_gradient(dy, x, w.shape, stride),
            *(x, w, biases),
        )

    return _with_labels(layer, x, w, biases, axis=3)


def dense(x: tf.Tensor, w: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Matrix multiplication, plus bias: [B, n] -> [B, m]."""
    if _only_tensorflow_ops or has_gpu():
        return tf.matmul(x, cast(w, x.dtype)) + cast(bias, x.dtype)
    return _with_gradients(
        tf.matmul,
        # dy w^T would read all of w across its rows: 3.8 ms on MNIST, this is 1.7 ms
        lambda x, w, dy: tf.transpose(tf.matmul(w, dy, transpose_b=True)),
        lambda x, w, dy: tf.matmul(x, dy, transpose_a=True),
        *(x, w, bias),
    )


def conv_cond_concat(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Append y, [B, 1, 1, d] or [1, 1, 1, d], to each pixel of x: [B, h, w, c + d].

    The result remembers x and y, because convolving x alone, and adding what the labels
    contribute by a multiplication, saves 6 to 12% of an iteration on MNIST.
    """
    is_shared = y.shape[0] == 1 and x.shape[0] != 1
    batch = tf.shape(x)[0] if is_shared else 1
    planes = tf.tile(y, [batch, x.shape[1], x.shape[2], 1])
    appended = tf.concat([x, planes], axis=3)
    if not is_shared and y.shape[-1] <= MAX_LABELS:  # many planes cost too much
        appended.x_and_y = x, y
    return appended


def _with_labels(layer, x, w, biases, axis):
    """layer(x, w, biases, None), with x and appended labels taken apart."""
    # not in the pass that makes the variables: TensorFlow's seeds of initial weights
    # depend on the number of ops
    if not (tf.get_variable_scope().reuse and hasattr(x, 'x_and_y')):
        return layer(x, w, biases, None)
    x, y = x.x_and_y
    (_, height, width, channels), labels = x.shape.as_list(), int(y.shape[-1])
    w, w_labels = tf.split(cast(w, x.dtype), [channels, labels], axis)
    # an image for each label, with ones in its channel, and zeros in the others
    eye = tf.reshape(tf.eye(labels, dtype=x.dtype), [labels, 1, 1, labels])
    planes = tf.tile(eye, [1, height, width, 1])
    of_labels = layer(planes, w_labels, None, labels)
    return layer(x, w, None, None) + _spread(y, of_labels, biases)


def _spread(y, of_labels, biases):
    """Biases, plus y, [B, 1, 1, d], times what the labels add, [d, h, w, c]."""
    # In one multiplication: after a BiasAdd, a second addition and a LeakyRelu, the
    # remapper fails, see session_config.
    count, *size = of_labels.shape.as_list()
    y, of_labels = tf.reshape(y, [-1, count]), tf.reshape(of_labels, [count, -1])
    biases, pixels = cast(biases, y.dtype), math.prod(size[:2])
    ones = tf.pad(y, [[0, 0], [0, 1]], constant_values=1)
    rows = tf.concat([of_labels, tf.tile(biases, [pixels])[tf.newaxis]], 0)

    def gradients(dy):
        by_y = tf.matmul(dy, of_labels, transpose_b=True)
        by_label = tf.matmul(y, dy, transpose_a=True)
        # by the ones, bfloat16 would round the sum of each pixel
        return by_y, by_label, tf.reduce_sum(tf.reshape(dy, [-1, size[-1]]), 0)

    results = [tf.matmul(ones, rows)]
    terms = custom_gradient(results, gradients, y, of_labels, biases)[0]
    return tf.reshape(terms, [-1, *size])


def _is_fast(w, strides):
    k_h, k_w = w.shape.as_list()[:2]
    is_square = k_h == k_w and strides[0] == strides[1]
    return is_square and not _only_tensorflow_ops and not has_gpu()


def _with_gradients(forward, input_gradient, weight_gradient, x, weights, biases):
    """forward(x, weights), plus biases or None, with gradients (x, weights, dy)."""
    x = tf.convert_to_tensor(x)
    weights = cast(weights, x.dtype)
    biases = [] if biases is None else [cast(biases, x.dtype)]
    y = forward(x, weights)
    y = tf.nn.bias_add(y, *biases) if biases else y

    def gradients(dy):
        dy = tf.convert_to_tensor(dy)  # it may be slices, of unknown shape
        dy.set_shape(y.shape)
        by_x = input_gradient(x, weights, dy)
        by_weights = weight_gradient(x, weights, dy)
        # the op that TensorFlow uses may err by half in bfloat16
        pixels = list(range(dy.shape.ndims - 1))
        return by_x, by_weights, *[tf.reduce_sum(dy, pixels) for _ in biases]

    return custom_gradient([y], gradients, x, weights, *biases)[0]


def _conv2d(x, w, stride):
    """[B, h, w, c] by filters [k, k, c, d], SAME padding -> [B, h', w', d]."""
    kernel, _, _, d = w.shape.as_list()
    # bfloat16 would round the partial sums
    if _output_pixels(x, stride) > MAX_MATMUL_PIXELS or x.dtype == tf.bfloat16:
        return tf.nn.conv2d(x, w, stride, 'SAME')
    height, width = (-(-n // stride) for n in x.shape.as_list()[1:3])
    # to 4x4: 16 ms, by oneDNN 26 ms
    parts = []
    for rows, kernel_rows, patches in _patches(x, kernel, stride):
        y = tf.matmul(patches, tf.reshape(w[kernel_rows], [-1, d]))
        y = tf.reshape(y, [-1, rows.stop - rows.start, width, d])
        around = [rows.start, height - rows.stop]
        parts.append(tf.pad(y, [[0, 0], around, [0, 0], [0, 0]]))
    return tf.add_n(parts)


def _filter_gradient(x, dy, shape, stride):
    """The gradient of _conv2d(x, w) by w, whose shape is given."""
    kernel, _, c, d = shape.as_list()
    max_pixels = MAX_MATMUL_PIXELS
    # patches of fewer channels are gathered in pieces that are too small
    if x.dtype == tf.bfloat16 and c > MAX_SUBPIXEL_CHANNELS:
        max_pixels = MAX_MATMUL_PIXELS_BFLOAT16
    if _output_pixels(x, stride) > max_pixels:
        # in bfloat16, TensorFlow's kernel is up to 5% low
        compute_dtype = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
        arrays = tf.cast(x, compute_dtype), shape, tf.cast(dy, compute_dtype)
        gradient = tf.nn.conv2d_backprop_filter(*arrays, [1, stride, stride, 1], 'SAME')
        return tf.cast(gradient, x.dtype)
    parts = [
        tf.matmul(patches, tf.reshape(dy[:, rows], [-1, d]), transpose_a=True)
        for rows, _, patches in _patches(x, kernel, stride)
    ]
    return tf.reshape(tf.concat(parts, 0), shape)


def _conv2d_transpose(y, w, shape, stride):
    """The transpose of _conv2d by w: [B, h', w', d] -> `shape`, [B, h, w, c]."""
    kernel, _, c, d = w.shape.as_list()
    sizes = list(zip(shape[1:3], y.shape.as_list()[1:3]))
    is_known = not any(n is None or tf.is_tensor(n) for pair in sizes for n in pair)
    is_multiple = is_known and all(n == m * stride for n, m in sizes)
    if c <= MAX_SUBPIXEL_CHANNELS and is_multiple and 1 < stride <= kernel:
        return _subpixel_conv2d(y, w, stride)  # 3.8 ms for G's last layer, not 8.4 ms
    fits = is_known and all(-(-n // stride) == m for n, m in sizes)
    is_small = fits and math.prod(m for _, m in sizes) <= MAX_MATMUL_PIXELS
    # bfloat16 would round the partial sums, and gain nothing
    if not is_small or y.dtype == tf.bfloat16:
        return tf.nn.conv2d_transpose(y, w, shape, stride, 'SAME')
    # From 4x4: 19 ms, by oneDNN 24 to 27 ms, on a processor of family 26. The first
    # multiplication gives the contributions of each pixel of y; the second, with zeros
    # and ones, adds up the contributions to each pixel of the result.
    _, height, width, _ = shape
    parts = []
    for rows, kernel_rows, windows in _row_bands(height, width, kernel, stride):
        y_rows = tf.reshape(y[:, rows], [-1, d])
        w_rows = tf.reshape(w[kernel_rows], [-1, d])
        contributions = tf.matmul(y_rows, w_rows, transpose_b=True)
        contributions = tf.reshape(contributions, [-1, windows.size, c])
        scatter = np.arange(height * width)[:, np.newaxis] == windows.reshape(-1)
        parts.append(tf.matmul(tf.constant(scatter, y.dtype), contributions))
    return tf.reshape(tf.add_n(parts), shape)


def _subpixel_conv2d(y, w, stride):
    """_conv2d_transpose to few channels and `stride` times the height and width.

    A pixel of y contributes to stride x stride pixels of each window: that is a
    convolution with stride 1 and stride**2 * c channels, which depth_to_space then lays
    out as pixels (sub-pixel convolution, https://arxiv.org/abs/1609.05158).
    """
    kernel, _, c, d = w.shape.as_list()
    # Output pixel p takes from y, at distance `offset`, the filter's row (or column)
    # p + pad_top - stride * offset, and zeros where the filter has no such row.
    pad_top = (kernel - stride) // 2
    max_offset = max((pad_top + stride - 1) // stride, (kernel - 1 - pad_top) // stride)
    offsets = np.arange(-max_offset, max_offset + 1)
    index = np.arange(stride) + pad_top - stride * offsets[:, np.newaxis]
    index = np.where((index >= 0) & (index < kernel), index, kernel)
    w = tf.pad(w, [[0, 1], [0, 1], [0, 0], [0, 0]])  # row and column `kernel`: zeros
    w = tf.gather(tf.gather(w, index, axis=0), index, axis=2)
    w = tf.transpose(w, [0, 2, 5, 1, 3, 4])  # from [offset, p, offset, p, c, d]
    w = tf.reshape(w, [len(offsets), len(offsets), d, stride * stride * c])
    return tf.nn.depth_to_space(tf.nn.conv2d(y, w, 1, 'SAME'), stride)


def _output_pixels(x, stride):
    """Of a SAME convolution of x; infinite if the size of x is not known."""
    sizes = x.shape.as_list()[1:3]
    return math.inf if None in sizes else math.prod(-(-n // stride) for n in sizes)


def _patches(x, kernel, stride):
    """Yield _row_bands of x, with patches [B * rows * w', kernel_rows * kernel * c]."""
    _, h, w, c = x.shape.as_list()
    pixels = tf.pad(tf.reshape(x, [-1, h * w, c]), [[0, 0], [0, 1], [0, 0]])
    for rows, kernel_rows, windows in _row_bands(h, w, kernel, stride):
        patches = tf.gather(pixels, windows.reshape(-1), axis=1)
        patches = tf.reshape(patches, [-1, windows.shape[2] * kernel * c])
        yield rows, kernel_rows, patches


def _row_bands(h, w, kernel, stride):
    """Yield matrix multiplications of a SAME convolution: (rows, kernel_rows, windows).

    One for each group of the filters' rows that overlap the image in the same output
    rows: slices of the output's and the filters' rows, and the pixel under each weight,
    [rows, w', kernel_rows, kernel], counted row by row; h * w for padding. Leaving out
    filter rows that meet only padding saves 4% of an iteration; slicing columns, too,
    would copy the filters.
    """
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (h, w)]
    pads = [(pad // 2, pad - pad // 2) for pad in pads]
    indices = np.pad(np.arange(h * w).reshape(h, w), pads, constant_values=h * w)
    windows = np.lib.stride_tricks.sliding_window_view(indices, (kernel, kernel))
    windows = windows[::stride, ::stride]
    overlaps = (windows < h * w).any(axis=(1, 3))  # [h', kernel]

    def rows_overlapping(kernel_row):
        rows = np.flatnonzero(overlaps[:, kernel_row]).tolist()
        # without any, zeros are added: the filters' gradient needs this row, too
        return slice(rows[0], rows[-1] + 1) if rows else slice(0, len(overlaps))

    for rows, group in itertools.groupby(range(kernel), rows_overlapping):
        first, *others = group
        kernel_rows = slice(first, first + len(others) + 1)
        yield rows, kernel_rows, windows[rows, :, kernel_rows]
