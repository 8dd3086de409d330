"""Write TensorBoard's summaries of a training run, in a thread beside the training."""

import contextlib
import queue
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.files import write_errors

MAX_WAITING = 64  # iterations whose summaries are not written yet
# the tags of the histogram and of the losses, in a step of D and in a step of G
D_TAGS, G_TAGS = ('d', 'd_loss_real', 'd_loss'), ('d_', 'd_loss_fake', 'g_loss')
DESCRIPTIONS = {  # shown by TensorBoard
    'd': 'D(x): the probability that D gives to real images, before its update',
    'd_': 'D(G(z)): the probability that D gives to images of G, before an update of G',
    'z_1': 'z, the input of G in this iteration',
}


class SummaryLog:
    """Writes the summaries of a training run to a folder, in a thread.

    Errors of the thread are raised by the next call: UserError if the folder cannot be
    written.
    """

    def __init__(
        self,
        folder: str,
        graph: tf.Graph,
        last_step: int,
        with_images: bool = False,
        steps: tuple[int, int] = (1, 2),
    ):
        """Void the events after `last_step`, which a killed process has left.

        with_images  also log images of G
        steps        numbers of steps of D and of G in an iteration
        """
        self.folder = folder
        with self._write_errors():
            # with a suffix, because names hold the time in seconds: a second call of
            # train() would overwrite the file of the first
            suffix = f'.{last_step}' if last_step else ''
            self.writer = tf.summary.FileWriter(folder, graph, filename_suffix=suffix)
        if last_step:
            start = tf.SessionLog(status=tf.SessionLog.START)
            self.writer.add_session_log(start, last_step + 1)
        self._make_summaries = SummaryMaker(with_images, steps)
        self._waiting = queue.Queue(MAX_WAITING)
        self._error = None
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def add(self, result, z: np.ndarray, step: int, rates: Sequence[float]) -> None:
        """Log an iteration.

        result  its Iteration of arrays
        z       the z that it has trained on
        rates   the learning rates of D and of G
        """
        self._raise_error()
        self._waiting.put((result, z, step, rates))

    def flush(self) -> None:
        """Wait until everything logged is in the file."""
        self._waiting.join()
        self._raise_error()
        with self._write_errors():
            self.writer.flush()

    def close(self, ignore_errors=False) -> None:
        """Close the file. ignore_errors: because another error is being raised."""
        self._waiting.put(None)
        self._thread.join()
        self._make_summaries.close()
        with contextlib.suppress(Exception) if ignore_errors else self._write_errors():
            self.writer.close()
        if not ignore_errors:
            self._raise_error()

    def _write(self):
        """Write what is in the queue until None comes; after an error, drop it."""
        is_first = True
        for result, z, step, rates in iter(self._waiting.get, None):
            if self._error is None:
                try:
                    summaries = self._make_summaries(result, z)
                    summaries[0] += rate_summary(rates)
                    if is_first:
                        summaries = map(described, summaries)
                    for summary in summaries:
                        self.writer.add_summary(summary, step)
                    is_first = False
                except Exception as error:
                    self._error = error
            self._waiting.task_done()

    def _raise_error(self):
        if self._error is not None:
            error, self._error = self._error, None
            with self._write_errors():
                raise error

    def _write_errors(self):
        return write_errors(self.folder, Exception)  # the thread may raise any


def rate_summary(rates: Sequence[float]) -> bytes:
    """The serialized summary of the learning rates of D and of G."""
    summary = tf.Summary()
    for network, rate in zip('dg', rates):
        summary.value.add(tag=f'learning_rate_{network}', simple_value=rate)
    return summary.SerializeToString()


def described(summary: bytes) -> tf.Summary:
    """Parse a serialized summary and add the DESCRIPTIONS of its tags."""
    summary = tf.Summary.FromString(summary)
    for value in summary.value:
        if value.tag in DESCRIPTIONS:
            value.metadata.summary_description = DESCRIPTIONS[value.tag]
    return summary


class SummaryMaker:
    """Makes the serialized summaries of an iteration, one for each of its steps.

    It has a separate graph and session, on the CPU, so that the graph of the iteration
    has no op of the host. It uses raw ops, because tf.summary would make the tags
    unique: `d_1` after `d`.
    """

    def __init__(self, with_images: bool, steps: tuple[int, int] = (1, 2)):
        """steps: numbers of steps of D and of G in an iteration."""
        d_steps, g_steps = steps
        raw = tf.raw_ops
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
                    of_step.append(
                        raw.ImageSummary(tag='G', tensor=drawn, max_images=3)
                    )
                summaries.append(tf.summary.merge(of_step))
            self.sess = tf.Session(config=tf.ConfigProto(device_count={'GPU': 0}))
        inputs += [images] if with_images else []
        self._run = self.sess.make_callable(summaries, inputs)

    def __call__(self, result, z: np.ndarray) -> list[bytes]:
        """The summaries of an iteration; arguments as for SummaryLog.add."""
        return self._run(z, result.step_losses, result.probabilities, *result.images)

    def close(self) -> None:
        self.sess.close()
