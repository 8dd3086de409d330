"""The arithmetic of the layers: fast ways on CPUs, and plain TensorFlow.

conv2d, conv2d_transpose and dense compute what TensorFlow's own ops compute, gradients
included. For some shapes, oneDNN's CPU convolutions reach a fraction of the speed of a
matrix multiplication. For those, these functions add up the same terms in another
order, as a matrix multiplication. Each choice stands with what it saves, measured at
64x64 pixels with a batch of 64 on 2 cores of an AMD EPYC.

Plain TensorFlow takes over on GPUs, for kernels or strides that are not square, and
where the environment variable DCGAN_PLAIN_OPS is 1. It is also the reference that the
tests compare with.

Images are [B, height, width, channels]. Filters `w` are [k, k, channels of the larger
image, channels of the smaller image], for convolutions [k, k, in, out] and for
transposed convolutions [k, k, out, in]. Weights and biases are float32. Each function
works in the type of `x`, float32 or bfloat16.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.devices import has_gpu

# at most this many output channels: transposed convolution as a convolution
MAX_SUBPIXEL_CHANNELS = 16
# at most this many pixels in the smaller image: matrix multiplications
MAX_MATMUL_PIXELS = 16
# the same, for filter gradients in bfloat16 with more than MAX_SUBPIXEL_CHANNELS
MAX_MATMUL_PIXELS_BFLOAT16 = 256

_is_plain = os.environ.get('DCGAN_PLAIN_OPS') == '1'


@contextlib.contextmanager
def plain_ops() -> Iterator[None]:
    """Let layers that are built in this block consist of TensorFlow's own ops alone."""
    global _is_plain
    before, _is_plain = _is_plain, True
    try:
        yield
    finally:
        _is_plain = before


def conv2d(
    x: tf.Tensor, w: tf.Tensor, biases: tf.Tensor, strides: list[int]
) -> tf.Tensor:
    """Convolution with SAME padding, plus biases: [B, h, w, c] -> [B, h', w', d].

    h' is ceil(h / strides[0]), w' likewise.
    """
    if not _is_fast(w, strides):
        return plain_conv2d(x, w, biases, strides)
    stride = strides[0]
    return _with_gradients(
        lambda x, w: _conv2d(x, w, stride),
        lambda x, w, dy: _conv2d_transpose(dy, w, shape_list(x), stride),
        lambda x, w, dy: _filter_gradient(x, dy, w.shape, stride),
        *(x, w, biases),
    )


def conv2d_transpose(
    x: tf.Tensor, w: tf.Tensor, biases: tf.Tensor, output_shape, strides: list[int]
) -> tf.Tensor:
    """Transposed convolution, plus biases: [B, h', w', d] -> output_shape.

    output_shape is [B, h, w, c], ints or tensors, with ceil(h / strides[0]) == h' and
    w likewise.
    """
    # as TensorFlow 1 has them in the shape of a tensor
    output_shape = [n.value if isinstance(n, tf.Dimension) else n for n in output_shape]
    if not _is_fast(w, strides):
        return plain_conv2d_transpose(x, w, biases, output_shape, strides)
    stride = strides[0]
    return _with_gradients(
        lambda x, w: _conv2d_transpose(x, w, output_shape, stride),
        lambda x, w, dy: _conv2d(dy, w, stride),
        lambda x, w, dy: _filter_gradient(dy, x, w.shape, stride),
        *(x, w, biases),
    )


def dense(x: tf.Tensor, w: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Matrix multiplication, plus bias: [B, n] -> [B, m]."""
    if _is_plain or has_gpu():
        return plain_dense(x, w, bias)
    return _with_gradients(
        tf.matmul,
        # dy w^T would read all of w across its rows: 3.8 ms on MNIST, this is 1.7 ms
        lambda x, w, dy: tf.transpose(tf.matmul(w, dy, transpose_b=True)),
        lambda x, w, dy: tf.matmul(x, dy, transpose_a=True),
        *(x, w, bias),
    )


def plain_conv2d(x, w, biases, strides) -> tf.Tensor:
    """conv2d by TensorFlow's own ops."""
    w, biases = tf.cast(w, x.dtype), tf.cast(biases, x.dtype)
    return tf.nn.bias_add(tf.nn.conv2d(x, w, strides, 'SAME'), biases)


def plain_conv2d_transpose(x, w, biases, output_shape, strides) -> tf.Tensor:
    """conv2d_transpose by TensorFlow's own ops."""
    w, biases = tf.cast(w, x.dtype), tf.cast(biases, x.dtype)
    y = tf.nn.conv2d_transpose(x, w, output_shape, strides, 'SAME')
    return tf.nn.bias_add(y, biases)


def plain_dense(x, w, bias) -> tf.Tensor:
    """dense by TensorFlow's own ops."""
    return tf.matmul(x, tf.cast(w, x.dtype)) + tf.cast(bias, x.dtype)


def strip_custom_gradients(graph: tf.GraphDef) -> tf.GraphDef:
    """Remove the layers' own gradients from a GraphDef, in place, and return it.

    Their names are known to this process only. Without them, any process can
    differentiate the graph, by TensorFlow's own gradients.
    """
    functions = [function.node_def for function in graph.library.function]
    for node in itertools.chain(graph.node, *functions):
        if node.op == 'IdentityN':
            node.attr.pop('_gradient_op_type', None)
    return graph


def shape_list(x: tf.Tensor) -> list:
    """The shape of x as a list: ints where they are known, tensors elsewhere.

    The batch size is always a tensor.
    """
    static = [None, *x.shape.as_list()[1:]]
    return [tf.shape(x)[i] if n is None else n for i, n in enumerate(static)]


def _is_fast(w, strides):
    """Whether the fast ways apply to these filters and strides."""
    k_h, k_w = w.shape.as_list()[:2]
    is_square = k_h == k_w and strides[0] == strides[1]
    return is_square and not _is_plain and not has_gpu()


def _with_gradients(forward, input_gradient, weight_gradient, x, weights, biases):
    """forward(x, weights) + biases; the gradients are functions of (x, weights, dy)."""

    @tf.custom_gradient
    def layer(x, weights, biases):
        y = tf.nn.bias_add(forward(x, weights), biases)

        def gradients(dy):
            dy = tf.convert_to_tensor(dy)  # it may be slices, of unknown shape
            dy.set_shape(y.shape)
            return (
                input_gradient(x, weights, dy),
                weight_gradient(x, weights, dy),
                # BiasAddGrad adds up in bfloat16 and can be wrong by more than half
                tf.reduce_sum(dy, list(range(dy.shape.ndims - 1))),
            )

        return y, gradients

    return layer(x, tf.cast(weights, x.dtype), tf.cast(biases, x.dtype))


# Below, all kernels and strides are square, given by one number.


def _conv2d(x, w, stride):
    """[B, h, w, c] by filters [k, k, c, d], SAME padding -> [B, h', w', d]."""
    kernel, _, _, d = w.shape.as_list()
    size = _output_size(x, stride)
    # bfloat16 would round the partial sums
    if size is None or math.prod(size) > MAX_MATMUL_PIXELS or x.dtype == tf.bfloat16:
        return tf.nn.conv2d(x, w, stride, 'SAME')
    height, width = size  # to 4x4: 16 ms, by oneDNN 26 ms
    parts = []
    for rows, kernel_rows, patches in _patches(x, kernel, stride):
        y = tf.matmul(patches, tf.reshape(w[kernel_rows], [-1, d]))
        y = tf.reshape(y, [-1, rows.stop - rows.start, width, d])
        around = [rows.start, height - rows.stop]
        parts.append(tf.pad(y, [[0, 0], around, [0, 0], [0, 0]]))
    return tf.add_n(parts)


def _filter_gradient(x, dy, shape, stride):
    """The gradient of _conv2d(x, w) by w, which has that shape."""
    kernel, _, c, d = shape.as_list()
    max_pixels = MAX_MATMUL_PIXELS
    # patches of fewer channels are gathered in pieces that are too small
    if x.dtype == tf.bfloat16 and c > MAX_SUBPIXEL_CHANNELS:
        max_pixels = MAX_MATMUL_PIXELS_BFLOAT16
    size = _output_size(x, stride)
    if size is None or math.prod(size) > max_pixels:
        # in bfloat16, TensorFlow's kernel is up to 5% low
        compute_dtype = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
        gradient = tf.nn.conv2d_backprop_filter(
            tf.cast(x, compute_dtype),
            shape,
            tf.cast(dy, compute_dtype),
            [1, stride, stride, 1],
            'SAME',
        )
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
    sizes_match = is_known and all(-(-n // stride) == m for n, m in sizes)
    pixels = math.prod(m for _, m in sizes) if sizes_match else math.inf
    # bfloat16 would round the partial sums, and gain nothing
    if pixels > MAX_MATMUL_PIXELS or y.dtype == tf.bfloat16:
        return tf.nn.conv2d_transpose(y, w, shape, stride, 'SAME')
    # From 4x4: 19 ms, by oneDNN 24 to 27 ms, on a processor of family 26. First, what
    # each pixel of y contributes; then a multiplication with zeros and ones, which adds
    # up the contributions to each pixel of the result.
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


def _output_size(x, stride):
    """[h', w'] of a SAME convolution of x; None if the size of x is not known."""
    sizes = x.shape.as_list()[1:3]
    return None if None in sizes else [-(-n // stride) for n in sizes]


def _patches(x, kernel, stride):
    """_row_bands with the pixels of x in place of their indices.

    [(rows, kernel_rows, patches)]: patches are matrices,
    [B * rows * w', kernel_rows * kernel * c].
    """
    _, h, w, c = x.shape.as_list()
    pixels = tf.pad(tf.reshape(x, [-1, h * w, c]), [[0, 0], [0, 1], [0, 0]])
    bands = []
    for rows, kernel_rows, windows in _row_bands(h, w, kernel, stride):
        patches = tf.gather(pixels, windows.reshape(-1), axis=1)
        patches = tf.reshape(patches, [-1, windows.shape[2] * kernel * c])
        bands.append((rows, kernel_rows, patches))
    return bands


def _row_bands(h, w, kernel, stride):
    """The matrix multiplications that make up a SAME convolution.

    [(rows, kernel_rows, windows)], one for each group of the filters' rows that overlap
    the image in the same output rows:

    rows          slice of the output's rows
    kernel_rows   slice of the filters' rows
    windows       [rows, w', kernel_rows, kernel], the index of the pixel under each
                  weight, counted row by row from 0; h * w for padding

    This leaves out filter rows that meet only padding: 4% of an iteration. Columns are
    not left out, because slicing them would copy the filters.
    """
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (h, w)]
    indices = np.pad(
        np.arange(h * w).reshape(h, w),
        [(pad // 2, pad - pad // 2) for pad in pads],
        constant_values=h * w,
    )
    windows = np.lib.stride_tricks.sliding_window_view(indices, (kernel, kernel))
    windows = windows[::stride, ::stride]
    overlaps = (windows < h * w).any(axis=(1, 3))  # [h', kernel]

    def rows_overlapping(kernel_row):
        rows = np.flatnonzero(overlaps[:, kernel_row]).tolist()
        # without any, zeros are added: the filters' gradient needs this row, too
        return (rows[0], rows[-1] + 1) if rows else (0, len(overlaps))

    bands = []
    for (start, stop), group in itertools.groupby(range(kernel), rows_overlapping):
        first, *others = group
        rows, kernel_rows = slice(start, stop), slice(first, first + len(others) + 1)
        bands.append((rows, kernel_rows, windows[rows, :, kernel_rows]))
    return bands
