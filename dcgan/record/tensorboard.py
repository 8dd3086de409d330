"""Write TensorBoard's summaries of a training run, in a thread beside the training."""

import collections
import tempfile
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

    def __init__(self, folder: str, graph, last_step: int, d_steps=1, g_steps=2):
        """Void the events after `last_step`, which a killed process has left."""
        self._files, self.writer = Extra(folder), None
        self._tags = [D_TAGS] * d_steps + [G_TAGS] * g_steps
        with self._files:
            # names hold seconds: a second train() would overwrite the file of the first
            suffix = f'.{last_step}' if last_step else ''
            self.writer = tf.summary.FileWriter(folder, graph, filename_suffix=suffix)
            if last_step:
                start = tf.SessionLog(status=tf.SessionLog.START)
                self.writer.add_session_log(start, last_step + 1)
        # a separate graph, so that the graph of the iteration has no op of the host
        with tf.Graph().as_default(), tf.device('/cpu:0'):
            self._sess = tf.Session(config=tf.ConfigProto(device_count={'GPU': 0}))
            raw = tf.raw_ops  # tf.summary makes tags unique: `d_1` after `d`
            tags = ['z_1', *(tag for tag, *_ in self._tags)]
            arrays = [tf.placeholder(tf.float32) for _ in tags]
            pairs = zip(tags, arrays)
            histograms = [raw.HistogramSummary(tag=t, values=x) for t, x in pairs]
            image = raw.ImageSummary(tag='G', tensor=arrays[0], max_images=3)
        self._histograms = self._sess.make_callable(histograms, arrays)
        self._image = self._sess.make_callable(image, arrays[:1])
        self._thread = ThreadPoolExecutor(1)
        self._waiting: collections.deque[Future] = collections.deque()

    def add(self, result, z: np.ndarray, step: int, scalars: dict[str, float]) -> None:
        """Log an Iteration of arrays, its z, and other scalars by their tags."""
        with self._files:
            self._wait(MAX_WAITING)
            written = self._thread.submit(self._write, result, z, step, scalars)
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

    def _write(self, result, z, step, scalars):
        """Write a summary of each step of D and of G, see Iteration."""
        of_z, *histograms = self._histograms(z, *result.probabilities)
        steps = zip(self._tags, histograms, result.step_losses)
        for number, ((_, *tags), histogram, losses) in enumerate(steps):
            summary = tf.Summary.FromString(of_z + histogram)
            for tag, loss in zip(tags, losses):
                summary.value.add(tag=tag, simple_value=loss)
            of_g = number - self._tags.count(D_TAGS)  # the number of a step of G
            if of_g >= 0 and result.images:
                summary.MergeFromString(self._image(result.images[0][of_g]))
            if number == 0:
                for tag, value in scalars.items():
                    summary.value.add(tag=tag, simple_value=value)
            for value in summary.value:
                if value.tag in DESCRIPTIONS:  # written with the first of a tag only
                    value.metadata.summary_description = DESCRIPTIONS[value.tag]
            self.writer.add_summary(summary, step)
