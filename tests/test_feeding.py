"""Batches on their way to the device."""

import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dcgan.training.prefetch import BATCHES_AHEAD, Batch, BatchQueue, fed_ahead

pytestmark = pytest.mark.smoke


def batch(number):
    return Batch(np.full((2, 1, 1, 1), number, np.uint8), None, np.zeros((2, 3)))


def test_batches_come_in_order_also_after_a_feeder_that_was_closed_early(sess):
    batches = BatchQueue([2, 1, 1, 1], False, 3)
    closed = fed_ahead(sess, batches, ((batch(i), i) for i in range(50, 59)))
    assert next(closed) == 50
    closed.close()
    feeder = fed_ahead(sess, batches, ((batch(i), f'note {i}') for i in range(9)))
    for number, note in enumerate(feeder):
        images = sess.run(batches.next.images)
        assert note == f'note {number}' and (images == number).all()
    assert number == 8


def test_labels_are_queued_and_a_batch_can_be_fed_in_place_of_those_in_the_queue(sess):
    batches = BatchQueue([2, 1, 1, 1], True, 3)
    labelled = batch(1)._replace(labels=np.array([0, 300]))
    assert list(fed_ahead(sess, batches, iter([(labelled, 'note')]))) == ['note']
    assert sess.run(batches.next.labels).tolist() == [0, 300]
    images = tf.cast(batches.next.images, tf.int32) + 0
    other = batch(7)._replace(labels=np.array([1, 2]))
    fed = sess.run([images, batches.next.z], batches.feed(other))
    assert (fed[0] == 7).all() and fed[1].shape == (2, 3)


def test_only_a_few_batches_are_drawn_ahead(sess):
    drawn, has_drawn_enough, has_drawn_more = [], threading.Event(), threading.Event()

    def source():
        for i in range(9):
            drawn.append(i)
            if len(drawn) == BATCHES_AHEAD + 1:
                has_drawn_enough.set()
            if len(drawn) > BATCHES_AHEAD + 1:
                has_drawn_more.set()
            yield batch(i), i

    batches = BatchQueue([2, 1, 1, 1], False, 3)
    feeder = fed_ahead(sess, batches, source())
    assert next(feeder) == 0
    assert has_drawn_enough.wait(9)
    assert not has_drawn_more.wait(0.3) and len(drawn) == BATCHES_AHEAD + 1
    assert next(feeder) == 1
    assert has_drawn_more.wait(9)
    feeder.close()
    assert len(drawn) <= BATCHES_AHEAD + 2


def test_error_of_the_source_is_raised_after_the_batches_before_it(sess):
    def source():
        yield batch(0), 0
        raise ValueError('no more')

    feeder = fed_ahead(sess, BatchQueue([2, 1, 1, 1], False, 3), source())
    assert next(feeder) == 0
    with pytest.raises(ValueError, match='no more'):
        next(feeder)
