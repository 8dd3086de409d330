"""Layers against the same thing in NumPy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ops


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


def test_linear_is_a_product_and_a_bias(sess):
    x = np.random.RandomState(0).rand(4, 3).astype(np.float32)
    y = evaluate(sess, ops.linear(tf.constant(x), 2, name='l'))
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
    y = evaluate(sess, ops.batch_norm(tf.constant(x), name='bn'))
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
    y = evaluate(sess, ops.batch_norm(tf.constant(x), train=False, name='bn'))
    assert np.allclose(y, x / np.sqrt(1 + 1.001e-5), atol=1e-5)
    assert not sess.run(variable('bn/moving_mean')).any()


def test_lrelu_is_the_greater_of_x_and_a_fifth_of_it(sess):
    x = np.array([-5.0, -1.0, 0.0, 2.0])
    assert np.allclose(sess.run(ops.lrelu(tf.constant(x))), np.maximum(x, 0.2 * x))


def test_initial_weights_have_the_deviation_of_the_paper(sess):
    ops.conv2d(tf.ones([1, 8, 8, 32]), 64, name='c')
    ops.deconv2d(tf.ones([1, 8, 8, 64]), [1, 16, 16, 32], name='d')
    ops.linear(tf.ones([1, 100]), 500, name='l')
    sess.run(tf.global_variables_initializer())
    for name, deviation in (('c/w', 0.0176), ('d/w', 0.02), ('l/Matrix', 0.02)):
        weights = sess.run(variable(name))  # truncated at two deviations: 0.88 of it
        assert abs(weights.std() - deviation) < 3e-4, name
    assert abs(sess.run(variable('c/w'))).max() <= 0.04
