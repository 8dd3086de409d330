"""The arithmetic of the layers."""

import functools
import itertools
import math
import timeit

import numpy as np
import tensorflow.compat.v1 as tf

FEW_CHANNELS = 16  # up to these, transposed convolutions make their input's points wide
FEW_POINTS = 16  # up to these, of the smaller picture, convolutions are products
# the same, for gradients by filters in bfloat16 of more than FEW_CHANNELS channels
FEW_POINTS_BFLOAT16 = 256


def has_bfloat16():
    """Whether a matrix product is faster in bfloat16 here than in float32, by a fifth.

    Measured, in a third of a second: with units for it, it takes about half the time;
    processors without emulate it, and some builds of TensorFlow have no kernels for it
    but a slow loop. On busy cores the median of long products, in turns, still holds.
    """
    with tf.Graph().as_default(), tf.Session() as sess:
        products = []
        for dtype in (tf.bfloat16, tf.float32):
            x = tf.placeholder(dtype, [1536, 1536])
            run = sess.make_callable(tf.matmul(x, x).op, [x])
            ones = np.ones(x.shape, dtype.as_numpy_dtype)
            products.append(functools.partial(run, ones))
        turns = [[timeit.timeit(run, number=1) for run in products] for _ in range(8)]
    bfloat16, float32 = np.median(turns, axis=0)
    return bool(bfloat16 < 0.8 * float32)


def with_known_gradients(graph):
    """Make of a GraphDef one that any process can differentiate; return it.

    TensorFlow's own gradients take the place of the layers', known to this one alone.
    """
    for node in graph.node:
        if node.op == 'IdentityN':
            node.attr.pop('_gradient_op_type', None)
    return graph


def _layer(forward, input_gradient, weight_gradient, x, weights, biases):
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
                # BiasAddGrad adds up in bfloat16, and is wrong by more than a half
                tf.reduce_sum(dy, list(range(dy.shape.ndims - 1))),
            )

        return y, gradients

    return layer(x, tf.cast(weights, x.dtype), tf.cast(biases, x.dtype))


def _convolution(x, w, stride):
    """[B, h, w, c] by filters [k, k, c, d], SAME -> [B, h', w', d]."""
    kernel, _, _, d = w.shape.as_list()
    out = _reduced(x, stride)
    # for few points, oneDNN works at half its rate; bfloat16 would round the parts
    if out is None or math.prod(out) > FEW_POINTS or x.dtype == tf.bfloat16:
        return tf.nn.conv2d(x, w, stride, 'SAME')
    height, width = out
    parts = []
    for rows, taps, patches in _patches(x, kernel, stride):
        y = tf.matmul(patches, tf.reshape(w[taps], [-1, d]))
        y = tf.reshape(y, [-1, rows.stop - rows.start, width, d])
        around = [rows.start, height - rows.stop]
        parts.append(tf.pad(y, [[0, 0], around, [0, 0], [0, 0]]))
    return tf.add_n(parts)


def _filter_gradient(x, dy, shape, stride):
    """Of _convolution(x, w) with w of that shape, by w."""
    kernel, _, c, d = shape.as_list()
    few = FEW_POINTS
    # of fewer channels, patches are gathered in too small pieces
    if x.dtype == tf.bfloat16 and c > FEW_CHANNELS:
        few = FEW_POINTS_BFLOAT16
    out = _reduced(x, stride)
    if out is None or math.prod(out) > few:
        # in bfloat16 it would be up to 5% low, and a third faster; products are not
        wide = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
        gradient = tf.nn.conv2d_backprop_filter(
            tf.cast(x, wide), shape, tf.cast(dy, wide), [1, stride, stride, 1], 'SAME'
        )
        return tf.cast(gradient, x.dtype)
    parts = [
        tf.matmul(patches, tf.reshape(dy[:, rows], [-1, d]), transpose_a=True)
        for rows, _, patches in _patches(x, kernel, stride)
    ]
    return tf.reshape(tf.concat(parts, 0), shape)


def _reduced(x, stride):
    """[h', w'] of a SAME convolution of x; None where x is of unknown size."""
    sizes = x.shape.as_list()[1:3]
    return None if None in sizes else [-(-n // stride) for n in sizes]


def _sizes(x):
    """The shape of x: ints where they are known, tensors where not, and for B."""
    known = [None, *x.shape.as_list()[1:]]
    return [tf.shape(x)[i] if n is None else n for i, n in enumerate(known)]


def _patches(x, kernel, stride):
    """_bands, with points of x for their numbers: [(rows, taps, patches)].

    Patches are [B * rows * w', taps * kernel * c].
    """
    _, h, w, c = x.shape.as_list()
    points = tf.pad(tf.reshape(x, [-1, h * w, c]), [[0, 0], [0, 1], [0, 0]])
    bands = []
    for rows, taps, seen in _bands(h, w, kernel, stride):
        patches = tf.gather(points, seen.reshape(-1), axis=1)
        patches = tf.reshape(patches, [-1, seen.shape[2] * kernel * c])
        bands.append((rows, taps, patches))
    return bands


def _bands(h, w, kernel, stride):
    """The products that make up a SAME convolution: [(rows, taps, seen)].

    rows   slice of the output's rows
    taps   slice of the filters' rows, those that meet the picture at just these
    seen   [rows, w', taps, kernel], the number of the point of the picture under each
           tap, row by row from 0; h * w for padding

    To leave out rows of filters that see nothing but padding saves 15% from 8x8 to 4x4.
    Columns stay: to slice them would be to copy the filters.
    """
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (h, w)]
    numbers = np.pad(
        np.arange(h * w).reshape(h, w),
        [(pad // 2, pad - pad // 2) for pad in pads],
        constant_values=h * w,
    )
    seen = np.lib.stride_tricks.sliding_window_view(numbers, (kernel, kernel))
    seen = seen[::stride, ::stride]
    meets = (seen < h * w).any(axis=(1, 3))  # [h', kernel]

    def met_by(tap):
        rows = [row for row, is_met in enumerate(meets[:, tap]) if is_met]
        # where there are none, zeros: the gradient has to have this tap, too
        return (rows[0], rows[-1] + 1) if rows else (0, len(meets))

    bands = []
    for (start, stop), group in itertools.groupby(range(kernel), met_by):
        first, *others = group
        rows, taps = slice(start, stop), slice(first, first + len(others) + 1)
        bands.append((rows, taps, seen[rows, :, taps]))
    return bands


def _transposed(y, w, shape, stride):
    """The transpose of _convolution by w: [B, h', w', d] -> `shape`, [B, h, w, c]."""
    k, _, c, d = w.shape.as_list()
    sizes = list(zip(shape[1:3], y.shape.as_list()[1:3]))
    is_known = not any(n is None or tf.is_tensor(n) for pair in sizes for n in pair)
    is_even = is_known and all(n == m * stride for n, m in sizes)
    if c <= FEW_CHANNELS and is_even and 1 < stride <= k:
        return _widened(y, w, stride)
    is_whole = is_known and all(-(-n // stride) == m for n, m in sizes)
    points = math.prod(m for _, m in sizes) if is_whole else math.inf
    # bfloat16 would round the parts of the sums, and gain nothing
    if points > FEW_POINTS or y.dtype == tf.bfloat16:
        return tf.nn.conv2d_transpose(y, w, shape, stride, 'SAME')
    # what each point of y gives, then its sums where it lands, a product with ones
    _, height, width, _ = shape
    parts = []
    for rows, taps, seen in _bands(height, width, k, stride):
        y_rows, w_rows = tf.reshape(y[:, rows], [-1, d]), tf.reshape(w[taps], [-1, d])
        given = tf.matmul(y_rows, w_rows, transpose_b=True)
        lands = np.arange(height * width)[:, np.newaxis] == seen.reshape(-1)
        given = tf.reshape(given, [-1, seen.size, c])
        parts.append(tf.matmul(tf.constant(lands, y.dtype), given))
    return tf.reshape(tf.add_n(parts), shape)


def _widened(y, w, stride):
    """_transposed, for few channels, to a picture `stride` times as wide and high."""
    k, _, c, d = w.shape.as_list()
    # A point of y gives stride x stride points, each by the taps of w that meet it: a
    # convolution with stride 1, whose channels are then laid out as points
    # (https://arxiv.org/abs/1609.05158). Point p of them takes, from y at a distance of
    # `reach`, the tap p + top - stride * reach, and nothing where there is none.
    top = (k - stride) // 2  # padding
    far = max((top + stride - 1) // stride, (k - 1 - top) // stride)
    reach = np.arange(-far, far + 1)
    tap = np.arange(stride) + top - stride * reach[:, np.newaxis]
    tap = np.where((tap >= 0) & (tap < k), tap, k)
    w = tf.pad(w, [[0, 1], [0, 1], [0, 0], [0, 0]])  # row and column k: zeros
    w = tf.gather(tf.gather(w, tap, axis=0), tap, axis=2)  # [reach, p, reach, p, c, d]
    w = tf.transpose(w, [0, 2, 5, 1, 3, 4])
    w = tf.reshape(w, [len(reach), len(reach), d, stride * stride * c])
    return tf.nn.depth_to_space(tf.nn.conv2d(y, w, 1, 'SAME'), stride)
