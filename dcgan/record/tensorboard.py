"""Write TensorBoard's summaries of a training run, in a thread beside the training."""

import collections
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.output import Extra

MAX_WAITING = 64  # iterations whose summaries are not written yet
# the tags of the histogram and of the losses, in a step of D and in a step of G
D_TAGS, G_TAGS = ('d', 'd_loss_real', 'd_loss'), ('d_', 'd_loss_fake', 'g_loss')
DESCRIPTIONS = {  # shown by TensorBoard
    'd': 'D(x): the probability that D gives to real images, before its update',
    'd_': 'D(G(z)): the probability that D gives to images of G, before an update of G',
    'z_1': 'z, the input of G in this iteration',
}


class SummaryLog:
    """Writes the summaries of a training run to a folder, in a thread."""

    def __init__(self, folder: str, graph: tf.Graph, last_step: int, *made):
        """Void the events after `last_step`, which a killed process has left.

        made: the arguments of summary_session.
        """
        self._files, self.writer = Extra(folder), None
        with self._files:
            # names hold seconds: a second train() would overwrite the file of the first
            suffix = f'.{last_step}' if last_step else ''
            self.writer = tf.summary.FileWriter(folder, graph, filename_suffix=suffix)
            if last_step:
                start = tf.SessionLog(status=tf.SessionLog.START)
                self.writer.add_session_log(start, last_step + 1)
        self._sess, self._make_summaries = summary_session(*made)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: collections.deque[Future] = collections.deque()

    def add(self, result, z: np.ndarray, step: int, rates: Sequence[float]) -> None:
        """Log an Iteration of arrays, its z, and the learning rates of D and of G."""
        with self._files:
            self._wait(MAX_WAITING)
            written = self._thread.submit(self._write, result, z, step, rates)
            self._waiting.append(written)

    def flush(self) -> None:
        """Wait until everything logged is in the file."""
        with self._files:
            self._wait(0)
            self.writer.flush()  # it raises no error where the disk is full
            with tempfile.TemporaryFile(dir=self._files.name) as file:
                file.write(bytes(1 << 16))

    def close(self) -> None:
        """Close the file."""
        self.flush()
        self._thread.shutdown()
        self._sess.close()
        with self._files:
            self.writer.close()

    def _wait(self, most):
        """Wait until at most `most` iterations are not written yet."""
        waiting = self._waiting
        while waiting and (len(waiting) > most or waiting[0].done()):
            waiting.popleft().result()

    def _write(self, result, z, step, rates):
        arrays = result.step_losses, result.probabilities, *result.images
        summaries = self._make_summaries(z, *arrays)
        first, *others = map(tf.Summary.FromString, summaries)
        for network, rate in zip('dg', rates):
            first.value.add(tag=f'learning_rate_{network}', simple_value=rate)
        for summary in (first, *others):
            for value in summary.value:
                if value.tag in DESCRIPTIONS:  # written with the first of a tag only
                    value.metadata.summary_description = DESCRIPTIONS[value.tag]
            self.writer.add_summary(summary, step)


def summary_session(
    with_images: bool, steps: tuple[int, int] = (1, 2)
) -> tuple[tf.Session, Callable]:
    """A session, and its function that makes serialized summaries of an iteration.

    It takes z and an Iteration's step_losses, probabilities and, with_images, images;
    it returns a summary for each step of D and G.
    """
    d_steps, g_steps = steps
    raw = tf.raw_ops  # tf.summary makes tags unique: `d_1` after `d`
    # a separate graph, so that the graph of the iteration has no op of the host
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        z, losses, probabilities = inputs = [
            tf.placeholder(tf.float32, shape)
            for shape in (None, [sum(steps), 2], [sum(steps), None, 1])
        ]
        images = tf.placeholder(tf.float32, [g_steps, None, None, None, None])
        z_summary = raw.HistogramSummary(tag='z_1', values=z)
        summaries = []
        for step, tags in enumerate(d_steps * [D_TAGS] + g_steps * [G_TAGS]):
            values = probabilities[step]
            of_step = [z_summary, raw.HistogramSummary(tag=tags[0], values=values)]
            for tag, loss in zip(tags[1:], tf.unstack(losses[step])):
                of_step.append(raw.ScalarSummary(tags=tag, values=loss))
            if with_images and step >= d_steps:
                drawn = images[step - d_steps]
                of_step.append(raw.ImageSummary(tag='G', tensor=drawn, max_images=3))
            summaries.append(tf.summary.merge(of_step))
        sess = tf.Session(config=tf.ConfigProto(device_count={'GPU': 0}))
    inputs += [images] if with_images else []
    return sess, sess.make_callable(summaries, inputs)
