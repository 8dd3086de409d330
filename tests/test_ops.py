"""The layers of ops.py: shapes, variables and values, compared with NumPy."""

import numpy as np
import original_style
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, run_anew

import ops
from dcgan.compute.batch_norm import merged_momenta


def evaluate(sess, tensor):
    """Initialize all variables, and return the value of a tensor."""
    sess.run(tf.global_variables_initializer())
    return sess.run(tensor)


def variable(name):
    """The variable of that name in the default graph."""
    return next(v for v in tf.global_variables() if v.op.name == name)


def test_conv2d_halves_sizes_and_deconv2d_doubles_them_or_leaves_odd_ones(sess):
    conv = ops.conv2d(tf.ones([2, 7, 6, 3]), 5, name='c')
    assert [v.op.name for v in tf.global_variables()] == ['c/w', 'c/biases']
    assert evaluate(sess, conv).shape == (2, 4, 3, 5)
    deconv = ops.deconv2d(conv, [2, 7, 5, 3], name='d')
    assert evaluate(sess, deconv).shape == (2, 7, 5, 3)
    assert variable('c/w').shape == variable('d/w').shape == [5, 5, 3, 5]
    with pytest.raises(tf.errors.OpError):  # which one depends on the kernel that runs
        evaluate(sess, ops.deconv2d(tf.ones([2, 4, 4, 20]), [2, 6, 8, 20]))


def test_layers_work_with_the_tensor_shapes_of_tensorflow_1(sess):
    tf.disable_v2_tensorshape()
    try:
        x = ops.conv2d(tf.ones([2, 8, 8, 3]), 4)
        x = ops.conv_cond_concat(x, tf.ones([2, 1, 1, 3]))
        x = ops.deconv2d(x, tf.ones([2, 8, 8, 20]).get_shape(), name='wide')
        x = ops.deconv2d(ops.batch_norm()(x), [2, 8, 8, 3], d_h=1, d_w=1)
        y = ops.linear(tf.reshape(x, [2, -1]), 5)
        gradients = tf.gradients(y, tf.trainable_variables())
    finally:
        tf.enable_v2_tensorshape()
    assert all(g.any() for g in evaluate(sess, gradients[:2] + gradients[-2:]))


def test_linear_multiplies_and_adds_a_bias_of_zero(sess):
    x = np.random.RandomState(0).rand(4, 3).astype(np.float32)
    y = evaluate(sess, ops.linear(tf.constant(x), 2, 'l'))
    assert np.allclose(y, x @ sess.run(variable('l/Matrix')), atol=1e-6)
    assert not sess.run(variable('l/bias')).any()


def test_conv_cond_concat_appends_the_labels_to_each_pixel(sess):
    x, y = np.zeros((2, 3, 4, 1)), np.array([[1.0, 2.0], [3.0, 4.0]])
    result = sess.run(ops.conv_cond_concat(tf.constant(x), y.reshape(2, 1, 1, 2)))
    assert result.shape == (2, 3, 4, 3)
    assert (result[..., 1:] == y[:, None, None, :]).all()
    assert not result[..., 0].any()
    shared = tf.range(5.0)[None, None, None]  # by all images
    result = sess.run(ops.conv_cond_concat(tf.zeros([4, 8, 8, 3]), shared))
    assert result.shape == (4, 8, 8, 8) and (result[..., 3:] == np.arange(5)).all()


@pytest.mark.parametrize('shape', [(6, 3, 2, 4), (6, 4)])
def test_batch_norm_averages_the_unbiased_variance(sess, shape):
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


def test_a_pass_can_have_another_momentum_than_its_batch_norm(sess):
    x = np.random.RandomState(0).normal(2, 3, (12, 2, 2, 4)).astype(np.float32)
    layers = ops.batch_norm(momentum=0.6, name='a'), ops.batch_norm(name='b')
    outputs = [layers[0](tf.constant(x)), layers[1](tf.constant(x), momentum=0.6)]
    sess.run(tf.global_variables_initializer())
    assert np.allclose(*sess.run(outputs))
    for name in ('moving_mean', 'moving_variance'):
        a, b = sess.run([variable(f'{layer}/{name}') for layer in 'ab'])
        assert np.allclose(a, b) and not np.allclose(a, [0, 1][name[7] == 'v'])


def test_batch_norm_without_training_only_reads_the_moving_averages(sess):
    x = np.random.RandomState(0).normal(2, 3, (6, 4)).astype(np.float32)
    y = evaluate(sess, ops.batch_norm(name='bn')(tf.constant(x), train=False))
    assert np.allclose(y, x / np.sqrt(1 + 1.001e-5), atol=1e-5)
    assert not sess.run(variable('bn/moving_mean')).any()


def test_lrelu_is_the_maximum_of_x_and_a_fifth_of_x(sess):
    x = np.array([-5.0, -1.0, 0.0, 2.0])
    assert np.allclose(sess.run(ops.lrelu(tf.constant(x))), np.maximum(x, 0.2 * x))


def test_initial_weights_have_the_standard_deviation_of_the_paper(sess):
    ops.conv2d(tf.ones([1, 8, 8, 32]), 64, name='c')
    ops.deconv2d(tf.ones([1, 8, 8, 64]), [1, 16, 16, 32], name='d')
    ops.linear(tf.ones([1, 100]), 500, 'l')
    sess.run(tf.global_variables_initializer())
    # c/w is truncated at two standard deviations, which leaves 0.88 of 0.02
    for name, deviation in (('c/w', 0.0176), ('d/w', 0.02), ('l/Matrix', 0.02)):
        weights = sess.run(variable(name))
        assert abs(weights.std() - deviation) < 3e-4, name
    assert abs(sess.run(variable('c/w'))).max() <= 0.04


def test_with_w_returns_the_variables_as_well(sess):
    x = tf.ones([2, 4, 4, 3])
    images, w, biases = ops.deconv2d(x, [2, 8, 8, 5], name='d', with_w=True)
    output, matrix, bias = ops.linear(tf.ones([2, 3]), 4, bias_start=0.5, with_w=True)
    assert images.shape == [2, 8, 8, 5] and output.shape == [2, 4]
    names = [v.op.name for v in (w, biases, matrix, bias)]
    assert names == ['d/w', 'd/biases', 'Linear/Matrix', 'Linear/bias']
    assert evaluate(sess, bias).tolist() == [0.5] * 4


RECORDED = ROOT / 'tests' / 'golden' / 'rgb64'
RECORDED = RECORDED / 'checkpoint' / 'model.b12-1', RECORDED / 'forward.npz'


def assert_no_differences(differences):
    assert list(differences) == ['sampler', 'G', 'D', 'D_logits', 'D_', 'D_logits_']
    assert all(float(d) < 1e-4 for d in differences.values()), differences


def test_model_written_for_the_original_gives_the_recorded_outputs():
    assert_no_differences(original_style.differences(*map(str, RECORDED)))


@pytest.mark.slow
def test_it_does_so_where_the_behaviour_of_tensorflow_2_is_disabled(tmp_path):
    script = 'tests/original_style.py'
    result = run_anew(script, *RECORDED, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert_no_differences(dict(line.split() for line in result.stdout.splitlines()))


@pytest.mark.parametrize('shape', [[4, 5, 3], [2, 2, 5, 1, 3]])
def test_batch_norm_takes_any_rank(shape, sess):
    x = np.random.RandomState(0).rand(*shape).astype(np.float32)
    y = evaluate(sess, ops.batch_norm()(tf.constant(x)))
    assert y.shape == x.shape
    axes = tuple(range(len(shape) - 1))
    assert np.allclose(y.mean(axes), 0, atol=1e-6) and np.allclose(y.std(axes), 1, 1e-3)


def test_a_tensor_switches_batch_norm_between_the_batch_and_its_averages(sess):
    x = 3 + np.random.RandomState(0).rand(4, 2, 2, 3).astype(np.float32)
    train, bn = tf.placeholder(tf.bool), ops.batch_norm()
    y = bn(tf.constant(x), train)
    slope = tf.gradients(y, bn.gamma)[0]
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        by_batch, by_averages = (bn(tf.constant(x), is_on) for is_on in (True, False))
    sess.run(tf.global_variables_initializer())
    mean = variable('batch_norm/moving_mean')
    used = sess.run([y, slope], {train: False})
    assert (used[0] == sess.run(by_averages)).all() and not sess.run(mean).any()
    trained = sess.run([y, slope], {train: True})
    assert np.allclose(sess.run(mean), 0.1 * x.mean((0, 1, 2)))
    assert np.allclose(trained[0], sess.run(by_batch), atol=1e-6)
    assert (abs(used[1]) > 40).all() and (abs(trained[1]) < 1e-4).all()


def test_cross_entropies_of_2016_take_probabilities(sess):
    p, labels = tf.constant([[0.9], [0.2]]), tf.constant([[1.0], [0.0]])
    expected = -(np.log(0.9) + np.log(0.8)) / 2
    for loss in (
        ops.binary_cross_entropy(p, labels),
        ops.binary_cross_entropy_with_logits(labels, p),  # in this order
    ):
        assert np.isclose(sess.run(loss), expected)


def test_size_of_the_batch_is_no_epsilon(sess):
    assert ops.batch_norm(64, name='d_bn1').epsilon == ops.batch_norm().epsilon == 1e-5


def test_two_updates_with_merged_momenta_equal_three():
    def update(average, value, momentum):
        return momentum * average + (1 - momentum) * value

    average, real, fake, m = 5.0, 2.0, 3.0, 0.9
    three = update(update(update(average, fake, m), real, m), fake, m)
    p, q = merged_momenta(m)
    np.testing.assert_allclose(update(update(average, real, p), fake, q), three)
