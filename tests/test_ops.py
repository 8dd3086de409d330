"""Layers against the same thing in NumPy."""

import os
import subprocess
import sys

import numpy as np
import original_style
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT

import ops
from dcgan import kernels


def evaluate(sess, tensor):
    sess.run(tf.global_variables_initializer())
    return sess.run(tensor)


def variable(name):
    return next(v for v in tf.global_variables() if v.op.name == name)


def test_conv2d_halves_and_rounds_up(sess):
    conv = ops.conv2d(tf.ones([2, 7, 6, 3]), 5, name='c')
    assert evaluate(sess, conv).shape == (2, 4, 3, 5)
    assert [v.op.name for v in tf.global_variables()] == ['c/w', 'c/biases']
    assert variable('c/w').shape == [5, 5, 3, 5]


def test_deconv2d_reaches_odd_sizes(sess):
    deconv = ops.deconv2d(tf.ones([2, 4, 3, 5]), [2, 7, 5, 3], name='d')
    assert evaluate(sess, deconv).shape == (2, 7, 5, 3)
    assert variable('d/w').shape == [5, 5, 3, 5]


def test_deconv2d_refuses_a_shape_that_does_not_fit(sess):
    with pytest.raises(tf.errors.OpError):  # which one, is by the kernel
        evaluate(sess, ops.deconv2d(tf.ones([2, 4, 4, 20]), [2, 6, 8, 20]))


# height, width, channels in and out, kernel, stride; by the ways that ops.py goes
SHAPES = [
    (16, 16, 3, 4, 5, 2),  # few channels, many points
    (12, 10, 17, 3, 5, 2),
    (8, 8, 17, 3, 5, 2),  # few points
    (7, 6, 3, 17, 5, 2),  # odd
    (6, 8, 17, 3, 4, 2),  # even kernel
    (24, 24, 2, 3, 4, 3),
    (10, 12, 2, 3, 3, 2),
    (12, 12, 2, 3, 2, 3),
    (3, 3, 2, 2, 5, 2),  # smaller than the kernel
    (3, 2, 2, 2, 9, 2),  # much smaller: some taps never meet it
]
ONE_BY_ONE = [(12, 12, 2, 3, 3, 1), (4, 3, 2, 3, 3, 1)]  # stride 1
CASES = [(tf.float32, *shape) for shape in [*SHAPES, *ONE_BY_ONE]]
CASES += [(tf.bfloat16, *shape) for shape in SHAPES]


def compare(sess, layer, plain, x, dtype):
    """That a layer and its gradients are what TensorFlow makes of its plain self."""
    x = tf.constant(np.random.RandomState(0).randn(*x), dtype)
    y = layer(x)
    assert y.dtype == dtype
    weights = tf.trainable_variables()
    sess.run(tf.global_variables_initializer())
    sess.run(weights[1].assign_add(tf.ones_like(weights[1])))
    exact, *exact_weights = (tf.cast(v, tf.float32) for v in (x, *weights))
    expected = plain(exact, *exact_weights)
    dy = np.random.RandomState(1).randn(*expected.shape)
    ours = tf.gradients(y, [x, *weights], tf.constant(dy, dtype))
    theirs = tf.gradients(expected, [exact, *exact_weights], tf.constant(dy, 'float32'))
    tolerance = 1e-5 if dtype == tf.float32 else 2e-2
    for a, b in zip(*sess.run([[y, *ours], [expected, *theirs]])):
        assert a.shape == b.shape and abs(a - b).max() <= tolerance * abs(b).max()


@pytest.mark.parametrize('dtype, height, width, c, d, kernel, stride', CASES)
def test_conv2d_and_its_gradients_are_those_of_tensorflow(
    sess, dtype, height, width, c, d, kernel, stride
):
    def plain(x, w, biases):
        return tf.nn.conv2d(x, w, stride, 'SAME') + biases

    def layer(x):
        return ops.conv2d(x, d, kernel, kernel, stride, stride)

    compare(sess, layer, plain, (5, height, width, c), dtype)


@pytest.mark.parametrize('dtype, height, width, c, d, kernel, stride', CASES)
def test_deconv2d_and_its_gradients_are_those_of_tensorflow(
    sess, dtype, height, width, c, d, kernel, stride
):
    shape = [5, height, width, c]

    def plain(x, w, biases):
        return tf.nn.conv2d_transpose(x, w, shape, stride, 'SAME') + biases

    def layer(x):
        return ops.deconv2d(x, shape, kernel, kernel, stride, stride)

    compare(
        sess, layer, plain, (5, -(-height // stride), -(-width // stride), d), dtype
    )


# by the ways that ops.py goes: 17 are more than few channels
@pytest.mark.parametrize('size, channels', [(64, 3), (32, 17), (8, 3)])
def test_gradients_by_filters_in_bfloat16_are_not_low(sess, size, channels):
    rng = np.random.RandomState(0)
    # all positive: sums of as many
    x = rng.rand(64, size, size, channels).astype(np.float32)
    dy = rng.rand(64, size // 2, size // 2, 8).astype(np.float32)
    gradients = []
    for dtype in (tf.float32, tf.bfloat16):
        y = ops.conv2d(tf.constant(x, dtype), 8, name=dtype.name)
        w = variable(f'{dtype.name}/w')
        (gradient,) = tf.gradients(y, w, tf.constant(dy, dtype))
        gradients.append(evaluate(sess, gradient))
    assert abs(gradients[1] / gradients[0] - 1).max() < 0.01


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_layers_take_pictures_of_unknown_size(sess, dtype):
    def plain(x, w, biases):
        return tf.nn.conv2d(x, w, 2, 'SAME') + biases

    def plain_transposed(x, w, biases):
        return tf.nn.conv2d_transpose(x, w, [5, 16, 16, 3], 2, 'SAME') + biases

    def unknown(x):
        return tf.placeholder_with_default(x, [None, None, None, x.shape[-1]])

    def transposed(x):
        height = 2 * tf.shape(x)[1]
        return ops.deconv2d(unknown(x), [5, height, height, 3])

    compare(sess, lambda x: ops.conv2d(unknown(x), 4), plain, (5, 8, 8, 3), dtype)
    with tf.Graph().as_default(), tf.Session() as other:
        compare(other, transposed, plain_transposed, (5, 8, 8, 3), dtype)


def test_layers_take_shapes_as_they_were_before_tensorflow_2(sess):
    tf.disable_v2_tensorshape()
    try:
        x = ops.conv2d(tf.ones([2, 8, 8, 3]), 4)
        x = ops.conv_cond_concat(x, tf.ones([2, 1, 1, 3]))
        x = ops.deconv2d(ops.batch_norm()(x), [2, 8, 8, 3])
        y = ops.linear(tf.reshape(x, [2, -1]), 5)
        gradients = tf.gradients(y, tf.trainable_variables())
    finally:
        tf.enable_v2_tensorshape()
    assert all(g.any() for g in evaluate(sess, gradients[:2] + gradients[-2:]))


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_linear_and_its_gradients_are_those_of_tensorflow(sess, dtype):
    def plain(x, w, bias):
        return tf.matmul(x, w) + bias

    compare(sess, lambda x: ops.linear(x, 7), plain, (5, 11), dtype)


def test_linear_is_a_product_and_a_bias(sess):
    x = np.random.RandomState(0).rand(4, 3).astype(np.float32)
    y = evaluate(sess, ops.linear(tf.constant(x), 2, 'l'))
    assert np.allclose(y, x @ sess.run(variable('l/Matrix')), atol=1e-6)
    assert not sess.run(variable('l/bias')).any()


def test_conv_cond_concat_spreads_the_condition_over_the_picture(sess):
    x, y = np.zeros((2, 3, 4, 1)), np.array([[1.0, 2.0], [3.0, 4.0]])
    both = sess.run(ops.conv_cond_concat(tf.constant(x), y.reshape(2, 1, 1, 2)))
    assert both.shape == (2, 3, 4, 3)
    assert (both[..., 1:] == y[:, None, None, :]).all() and not both[..., 0].any()


@pytest.mark.parametrize('shape', [(6, 3, 2, 4), (6, 4)])
def test_batch_norm_moves_the_averages_by_the_unbiased_variance(sess, shape):
    x = np.random.RandomState(0).normal(2, 3, shape).astype(np.float32)
    y = evaluate(sess, ops.batch_norm(name='bn')(tf.constant(x)))
    rows = x.reshape(-1, 4)
    expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    assert y.shape == shape and np.allclose(y, expected, atol=1e-4)
    mean, variance = sess.run(
        [variable('bn/moving_mean'), variable('bn/moving_variance')]
    )
    assert np.allclose(mean, 0.1 * rows.mean(0), atol=1e-5)
    assert np.allclose(variance, 0.9 + 0.1 * rows.var(0, ddof=1), atol=1e-5)


def test_batch_norm_without_training_uses_the_averages_and_leaves_them(sess):
    x = np.random.RandomState(0).normal(2, 3, (6, 4)).astype(np.float32)
    y = evaluate(sess, ops.batch_norm(name='bn')(tf.constant(x), train=False))
    assert np.allclose(y, x / np.sqrt(1 + 1.001e-5), atol=1e-5)
    assert not sess.run(variable('bn/moving_mean')).any()


def test_lrelu_is_the_greater_of_x_and_a_fifth_of_it(sess):
    x = np.array([-5.0, -1.0, 0.0, 2.0])
    assert np.allclose(sess.run(ops.lrelu(tf.constant(x))), np.maximum(x, 0.2 * x))


def test_initial_weights_have_the_deviation_of_the_paper(sess):
    ops.conv2d(tf.ones([1, 8, 8, 32]), 64, name='c')
    ops.deconv2d(tf.ones([1, 8, 8, 64]), [1, 16, 16, 32], name='d')
    ops.linear(tf.ones([1, 100]), 500, 'l')
    sess.run(tf.global_variables_initializer())
    for name, deviation in (('c/w', 0.0176), ('d/w', 0.02), ('l/Matrix', 0.02)):
        weights = sess.run(variable(name))  # truncated at two deviations: 0.88 of it
        assert abs(weights.std() - deviation) < 3e-4, name
    assert abs(sess.run(variable('c/w'))).max() <= 0.04


# heights and widths of image, kernel and strides
@pytest.mark.parametrize(
    'size, kernel, strides', [((9, 8), (3, 5), (2, 2)), ((8, 6), (4, 4), (1, 2))]
)
def test_kernels_and_strides_need_not_be_square(sess, size, kernel, strides):
    def conv(x):
        return ops.conv2d(x, 4, *kernel, *strides)

    def plain_conv(x, w, biases):
        return tf.nn.conv2d(x, w, strides, 'SAME') + biases

    def deconv(x):
        return ops.deconv2d(x, [5, *size, 4], *kernel, *strides)

    def plain_deconv(x, w, biases):
        return tf.nn.conv2d_transpose(x, w, [5, *size, 4], strides, 'SAME') + biases

    small = [-(-n // stride) for n, stride in zip(size, strides)]
    compare(sess, conv, plain_conv, (5, *size, 3), tf.float32)
    with tf.Graph().as_default(), tf.Session() as other:
        compare(other, deconv, plain_deconv, (5, *small, 3), tf.float32)


def test_layers_return_their_variables_if_asked(sess):
    x = tf.ones([2, 4, 4, 3])
    images, w, biases = ops.deconv2d(x, [2, 8, 8, 5], name='d', with_w=True)
    output, matrix, bias = ops.linear(tf.ones([2, 3]), 4, bias_start=0.5, with_w=True)
    assert images.shape == [2, 8, 8, 5] and output.shape == [2, 4]
    names = [v.op.name for v in (w, biases, matrix, bias)]
    assert names == ['d/w', 'd/biases', 'Linear/Matrix', 'Linear/bias']
    assert evaluate(sess, bias).tolist() == [0.5] * 4


def test_plain_ops_are_those_of_tensorflow_alone(sess):
    def op_types(x):
        x = ops.deconv2d(ops.conv2d(x, 4), [2, 8, 8, 3])
        ops.linear(tf.reshape(x, [2, -1]), 5)
        return {op.type for op in tf.get_default_graph().get_operations()}

    with kernels.plain_ops():
        types = op_types(tf.ones([2, 8, 8, 3]))
    assert {'Conv2D', 'Conv2DBackpropInput', 'MatMul'} < types
    assert not types & {'IdentityN', 'GatherV2', 'DepthToSpace'}
    with tf.Graph().as_default():
        types = op_types(tf.ones([2, 8, 8, 3]))
    assert ('DepthToSpace' in types) == (not tf.config.list_physical_devices('GPU'))


@pytest.mark.parametrize('in_own_process', [False, True])
def test_a_model_on_ops_gives_what_the_original_recorded(in_own_process):
    folder = ROOT / 'tests' / 'golden' / 'rgb64'
    args = [str(folder / 'checkpoint' / 'model.b12-1'), str(folder / 'forward.npz')]
    if in_own_process:  # with TensorFlow 2's behaviour disabled
        script = ROOT / 'tests' / 'original_style.py'
        result = subprocess.run(
            [sys.executable, str(script), *args],
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        found = dict(line.split() for line in result.stdout.splitlines())
    else:
        found = original_style.differences(*args)
    assert list(found) == ['sampler', 'G', 'D', 'D_logits', 'D_', 'D_logits_']
    assert all(float(difference) < 1e-4 for difference in found.values()), found
