"""The layers of dcgan/compute/kernels.py, against TensorFlow's own ops."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dcgan.compute import kernels
from dcgan.compute.devices import has_gpu
from dcgan.compute.kernels import conv_cond_concat, dense, shared_casts, tensorflow_ops
from ops import conv_out_size_same

# height, width, channels of the larger and of the smaller image, kernel, stride; the
# thresholds in kernels.py decide how each one is computed
SHAPES = [
    (16, 16, 3, 4, 5, 2),  # few channels, many pixels
    (12, 10, 17, 3, 5, 2),
    (8, 8, 17, 3, 5, 2),  # few pixels
    (7, 6, 3, 17, 5, 2),  # odd height
    (6, 8, 17, 3, 4, 2),  # even kernel
    (24, 24, 2, 3, 4, 3),
    (10, 12, 2, 3, 3, 2),
    (12, 12, 2, 3, 2, 3),  # stride larger than the kernel
    (3, 3, 2, 2, 5, 2),  # image smaller than the kernel
    (3, 2, 2, 2, 9, 2),  # much smaller: some weights meet only padding
]
STRIDE_1 = [(12, 12, 2, 3, 3, 1), (4, 3, 2, 3, 3, 1)]
CASES = [(tf.float32, *shape) for shape in [*SHAPES, *STRIDE_1]]
CASES += [(tf.bfloat16, *shape) for shape in SHAPES]


def compare(sess, fast, exact, x_shape, w_shape, biases_shape, dtype, *args):
    """Assert that fast(x, w, biases, *args) and its gradients equal `exact`.

    `fast` computes in dtype, `exact` in float32, with the same values of x.
    """
    rng = np.random.RandomState(0)
    x = tf.constant(rng.randn(*x_shape), dtype)
    shapes = w_shape, biases_shape
    weights = [tf.Variable(rng.randn(*shape), dtype=tf.float32) for shape in shapes]
    exact_x = tf.cast(x, tf.float32)
    y, expected = fast(x, *weights, *args), exact(exact_x, *weights, *args)
    assert y.dtype == dtype
    dy = rng.randn(*expected.shape)
    gradients = tf.gradients(y, [x, *weights], tf.constant(dy, dtype))
    exact_gradients = tf.gradients(
        expected, [exact_x, *weights], tf.constant(dy, tf.float32)
    )
    sess.run(tf.global_variables_initializer())
    tolerance = 1e-5 if dtype == tf.float32 else 2e-2
    for a, b in zip(*sess.run([[y, *gradients], [expected, *exact_gradients]])):
        assert a.shape == b.shape and abs(a - b).max() <= tolerance * abs(b).max()


def own(layer):
    """A layer by TensorFlow's own ops."""

    def by_tensorflow(*args):
        with tensorflow_ops():
            return layer(*args)

    return by_tensorflow


@pytest.mark.parametrize('dtype, height, width, c, d, kernel, stride', CASES)
def test_convolutions_and_their_gradients_equal_tensorflow(
    sess, dtype, height, width, c, d, kernel, stride
):
    image, filters, strides = (
        [5, height, width, c],
        [kernel, kernel, c, d],
        [stride] * 2,
    )
    fast = kernels.conv2d
    compare(sess, fast, own(fast), image, filters, [d], dtype, strides)
    smaller = [5, -(-height // stride), -(-width // stride), d]
    fast = kernels.conv2d_transpose
    compare(sess, fast, own(fast), smaller, filters, [c], dtype, image, strides)


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_dense_and_its_gradients_equal_tensorflow(sess, dtype):
    shapes = [5, 11], [11, 7], [7]
    compare(sess, dense, own(dense), *shapes, dtype)


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_height_and_width_can_be_unknown_until_the_graph_runs(sess, dtype):
    def without_size(x):
        return tf.placeholder_with_default(x, [None, None, None, x.shape[-1]])

    def conv2d(x, w, biases, strides):
        return kernels.conv2d(without_size(x), w, biases, strides)

    def conv2d_transpose(x, w, biases, output_shape, strides):
        height = 2 * tf.shape(x)[1]
        shape = [5, height, height, 3]
        return kernels.conv2d_transpose(without_size(x), w, biases, shape, strides)

    shapes, strides = ([5, 8, 8, 3], [5, 5, 3, 4], [4]), [2, 2]
    compare(sess, conv2d, own(kernels.conv2d), *shapes, dtype, strides)
    shapes, args = ([5, 8, 8, 3], [5, 5, 3, 3], [3]), ([5, 16, 16, 3], strides)
    exact = own(kernels.conv2d_transpose)
    compare(sess, conv2d_transpose, exact, *shapes, dtype, *args)


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
@pytest.mark.parametrize('labels, is_apart', [(3, True), (17, False)])
@pytest.mark.parametrize('is_transposed', [False, True])
def test_labels_that_are_taken_apart_give_the_same_result(
    is_transposed, labels, is_apart, dtype, sess
):
    y = np.random.RandomState(1).randn(5, 1, 1, labels)  # need not be one-hot

    def layer(x, w, biases):
        if is_transposed:
            return kernels.conv2d_transpose(x, w, biases, [5, 8, 8, 2], [2, 2])
        return kernels.conv2d(x, w, biases, [2, 2])

    def apart(x, *weights):
        with tf.variable_scope('layer', reuse=True):
            return layer(conv_cond_concat(x, tf.constant(y, x.dtype)), *weights)

    def joined(x, *weights):
        x = tf.concat([x, np.tile(y, [1, *x.shape[1:3], 1]).astype(np.float32)], 3)
        return own(layer)(x, *weights)

    x_shape = [5, *((4, 4) if is_transposed else (8, 8)), 6]
    w_shape = [5, 5, 2, 6 + labels] if is_transposed else [5, 5, 6 + labels, 2]
    shapes = x_shape, w_shape, [2]
    compare(sess, apart, joined, *shapes, dtype)
    types = {op.type for op in sess.graph.get_operations()}
    assert ('SplitV' in types) == (is_apart and not has_gpu())


def test_shared_casts_end_with_their_block(sess):
    w = tf.Variable(tf.zeros([2, 3]))
    with shared_casts({w.ref(): None}):
        first = kernels.cast(w, tf.bfloat16)
        assert kernels.cast(w, tf.bfloat16) is first
        with shared_casts({}):
            assert kernels.cast(w, tf.bfloat16) is not first
        assert kernels.cast(w, tf.bfloat16) is first
        assert kernels.cast(w, tf.float32).dtype == tf.float32
    assert kernels.cast(w, tf.bfloat16) is not first


# (height, width) of the larger image, of the filters and of the strides
@pytest.mark.parametrize(
    'size, kernel, strides', [((9, 8), (3, 5), (2, 2)), ((8, 6), (4, 4), (1, 2))]
)
def test_filters_and_strides_that_are_not_square_use_tensorflow(
    sess, size, kernel, strides
):
    def conv2d(x, w, biases, strides):
        return tf.nn.conv2d(x, w, strides, 'SAME') + biases

    def conv2d_transpose(x, w, biases, output_shape, strides):
        return tf.nn.conv2d_transpose(x, w, output_shape, strides, 'SAME') + biases

    shapes = [5, *size, 3], [*kernel, 3, 4], [4]
    compare(sess, kernels.conv2d, conv2d, *shapes, tf.float32, strides)
    x_shape = [5, *map(conv_out_size_same, size, strides), 3]
    shapes, args = (x_shape, [*kernel, 4, 3], [4]), ([5, *size, 4], strides)
    fast = kernels.conv2d_transpose
    compare(sess, fast, conv2d_transpose, *shapes, tf.float32, *args)


# many channels are more than 16, MAX_SUBPIXEL_CHANNELS
@pytest.mark.parametrize('size, channels', [(64, 3), (32, 17), (8, 3)])
def test_filter_gradients_in_bfloat16_are_not_too_small(sess, size, channels):
    rng = np.random.RandomState(0)
    # all terms are positive, so that lost ones cannot cancel out
    x = rng.rand(64, size, size, channels)
    dy = rng.rand(64, size // 2, size // 2, 8)
    w, biases = tf.zeros([5, 5, channels, 8]), tf.zeros([8])
    gradients = []
    for dtype in (tf.float32, tf.bfloat16):
        y = kernels.conv2d(tf.constant(x, dtype), w, biases, [2, 2])
        gradients += tf.gradients(y, w, tf.constant(dy, dtype))
    expected, found = sess.run(gradients)
    assert abs(found / expected - 1).max() < 0.01


def test_tensorflow_ops_block_uses_only_tensorflow_functions(sess):
    def op_types():
        w, biases, strides = tf.zeros([5, 5, 3, 4]), tf.zeros([4]), [2, 2]
        x = kernels.conv2d(tf.ones([2, 8, 8, 3]), w, biases, strides)
        x = kernels.conv2d_transpose(x, w, tf.zeros([3]), [2, 8, 8, 3], strides)
        dense(tf.reshape(x, [2, -1]), tf.zeros([192, 5]), tf.zeros([5]))
        return {op.type for op in tf.get_default_graph().get_operations()}

    with tensorflow_ops():
        types = op_types()
    assert {'Conv2D', 'Conv2DBackpropInput', 'MatMul'} < types
    assert not types & {'IdentityN', 'GatherV2', 'DepthToSpace'}
    with tf.Graph().as_default():
        types = op_types()
    assert ('DepthToSpace' in types) == (not has_gpu())
