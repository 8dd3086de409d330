"""Queue batches on the device ahead of the iterations that train on them."""

import collections
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu

BATCHES_AHEAD = 2  # one would do if each batch took the same time to read


class Batch(NamedTuple):
    """What an iteration takes, in the types that are smallest to send to a device."""

    images: Any  # uint8 [B, h, w, c]
    labels: Any = None  # int64 [B]; None for a model without classes
    z: Any = None  # float32 [B, z_dim]
    seed: Any = None  # int32 [2], of random numbers in updates; or None


class BatchQueue:
    """A queue of batches in the memory of the device that trains.

    `next` is a Batch of tensors: evaluating them takes the oldest batch out of the
    queue. They can also be fed. `clear` is an op that empties the queue.
    """

    def __init__(self, shape: list[int], has_labels: bool, z_dim: int, has_seed=False):
        """shape: [B, h, w, c], of the images."""
        kinds = {'images': (tf.uint8, shape), 'z': (tf.float32, [shape[0], z_dim])}
        if has_labels:
            kinds['labels'] = tf.int64, shape[:1]
        if has_seed:
            kinds['seed'] = tf.int32, [2]
        self._placeholders = {n: tf.placeholder(*kind) for n, kind in kinds.items()}
        values = list(self._placeholders.values())
        dtypes = [value.dtype for value in values]
        name = tf.get_default_graph().unique_name('batches')
        # on one device, because each device has its queues
        with tf.device('/gpu:0' if has_gpu() else '/cpu:0'):
            self._put = tf.raw_ops.Stage(values=values, shared_name=name)
            self.clear = tf.raw_ops.StageClear(dtypes=dtypes, shared_name=name)
            tensors = tf.raw_ops.Unstage(dtypes=dtypes, shared_name=name)
        for tensor, value in zip(tensors, values):
            tensor.set_shape(value.shape)
        self._tensors = dict(zip(kinds, tensors))
        self.next = Batch(**self._tensors)

    def feed(self, batch: Batch) -> dict:
        """The feed that gives a run this batch of arrays instead of the queue's."""
        return {tensor: getattr(batch, n) for n, tensor in self._tensors.items()}

    def take(self, sess: tf.Session) -> Batch:
        """Take the batch that is next out of the queue; returns its arrays."""
        return Batch(**sess.run(self._tensors))

    def put(self, sess: tf.Session, batch: Batch) -> None:
        """Put a batch of arrays into the queue."""
        fed = {value: getattr(batch, n) for n, value in self._placeholders.items()}
        sess.run(self._put, fed)


def fed_ahead(sess: tf.Session, batches: BatchQueue, source: Iterator) -> Iterator:
    """Queue each (Batch of arrays, note) of `source` in a thread; yield queued notes.

    An error of `source` is raised after the notes before it. Closed early, this leaves
    batches in the queue.
    """
    sess.run(batches.clear)

    def put_next():
        batch, note = next(source, (None, None))
        if batch is not None:
            batches.put(sess, batch)
        return note

    thread = ThreadPoolExecutor(1)
    try:
        notes = collections.deque(thread.submit(put_next) for _ in range(BATCHES_AHEAD))
        while (note := notes.popleft().result()) is not None:
            notes.append(thread.submit(put_next))
            yield note
    finally:
        thread.shutdown(cancel_futures=True)
