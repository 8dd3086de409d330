"""Queue batches on the device ahead of the iterations that train on them."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu

BATCHES_AHEAD = 2  # one would do if each batch took the same time to read


class Batch(NamedTuple):
    """What an iteration takes, in the types that are smallest to send to a device."""

    images: Any  # uint8 [B, h, w, c]
    labels: Any = None  # int64 [B]; None for a model without classes
    z: Any = None  # float32 [B, z_dim]
    seed: Any = None  # int32 [2], of dropout; None where there is none


class BatchQueue:
    """A queue of batches in the memory of the device that trains.

    next    a Batch of tensors. Where they are evaluated, they are the batch that has
            been in the queue for longest, which leaves it. They can also be fed.
    """

    def __init__(
        self, image_shape: list[int], has_labels: bool, z_dim: int, has_seed=False
    ):
        """image_shape is [B, h, w, c]."""
        size = image_shape[0]
        kinds = {'images': (tf.uint8, image_shape), 'z': (tf.float32, [size, z_dim])}
        if has_labels:
            kinds['labels'] = tf.int64, [size]
        if has_seed:
            kinds['seed'] = tf.int32, [2]
        self._placeholders = {n: tf.placeholder(*kind) for n, kind in kinds.items()}
        values = list(self._placeholders.values())
        dtypes = [value.dtype for value in values]
        name = tf.get_default_graph().unique_name('batches')
        # on one device, because each device has its queues
        with tf.device('/gpu:0' if has_gpu() else '/cpu:0'):
            self._put = tf.raw_ops.Stage(values=values, shared_name=name)
            self._clear = tf.raw_ops.StageClear(dtypes=dtypes, shared_name=name)
            tensors = tf.raw_ops.Unstage(dtypes=dtypes, shared_name=name)
        for tensor, value in zip(tensors, values):
            tensor.set_shape(value.shape)
        self.next = Batch(**dict(zip(kinds, tensors)))

    def _of(self, batch):
        """The fields of a Batch that the queue has, in its order."""
        return [getattr(batch, name) for name in self._placeholders]

    def feed(self, batch: Batch) -> dict:
        """The feed that gives a run this batch of arrays instead of the queue's."""
        return dict(zip(self._of(self.next), self._of(batch)))

    def take(self, sess: tf.Session) -> Batch:
        """Take the batch that is next out of the queue; returns its arrays."""
        return Batch(**dict(zip(self._placeholders, sess.run(self._of(self.next)))))

    def putter(self, sess: tf.Session):
        """A function that puts a Batch of arrays into the queue."""
        put = sess.make_callable(self._put, list(self._placeholders.values()))
        return lambda batch: put(*self._of(batch))

    def clear(self, sess: tf.Session) -> None:
        """Drop the batches that are in the queue."""
        sess.run(self._clear)


class Feeder:
    """Fills a BatchQueue in a thread, BATCHES_AHEAD of the training.

    `source` yields (Batch of arrays, note). Iterating over a Feeder yields each note
    when its batch is in the queue. An error of `source` is raised after the notes of
    the batches before it.
    """

    def __init__(
        self, sess: tf.Session, batches: BatchQueue, source: Iterator[tuple[Batch, Any]]
    ):
        batches.clear(sess)
        self._put, self._source = batches.putter(sess), source
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._ready = queue.SimpleQueue()  # (note, None), at the end (None, error)
        self._is_closed = False
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self):
        error = StopIteration()
        try:
            while self._room.acquire() and not self._is_closed:
                batch, note = next(self._source)
                self._put(batch)
                self._ready.put((note, None))
        except BaseException as caught:
            error = caught
        self._ready.put((None, error))

    def __iter__(self):
        return self

    def __next__(self):
        note, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))  # for another call
            raise error
        self._room.release()
        return note

    def close(self) -> None:
        """End the thread. Batches that are still in the queue are left there."""
        self._is_closed = True
        self._room.release()
        self._thread.join()
