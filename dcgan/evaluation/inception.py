"""Run Inception, or another frozen graph or SavedModel, for features of images.

Every extractor, also the one in classifier.py, has `name`, for tables, `digest`, the
SHA-256 of its file or weights, and `features`: uint8 [n, h, w, c] -> float32 [n, d].
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import without_wildcards

# raised by TensorFlow for files that hold no graph, or an unsuitable one
LOAD_ERRORS = (tf.errors.OpError, DecodeError, OSError)
LOAD_ERRORS += (ValueError, KeyError, RuntimeError)


class GraphExtractor:
    """Features by a frozen graph, which is a file, or a SavedModel, which is a folder.

    It needs one input for images [any, h, w, 1 or 3] in [0, 255], which are resized to
    fixed h and w, and one output, which is flattened. Inception has nodes ExpandDims
    and pool_3, and resizes images itself. UserError for a file that is no such graph.
    """

    def __init__(self, path: str):
        self.path, self.digest = path, digest_of(path)
        self.name = os.path.basename(os.path.normpath(path))
        self._graph = tf.Graph()
        self._sess = tf.Session(graph=self._graph)
        load = self._load_saved_model if os.path.isdir(path) else self._load_frozen
        try:
            with self._graph.as_default():
                self._images, self._features = load()
                if self._images.shape.ndims != 4:
                    raise ValueError('its input is not [any, h, w, channels]')
                self._unsized = tf.placeholder(tf.float32, [None, None, None, None])
                size = self._images.shape.as_list()[1:3]
                if None not in size:
                    self._resized = tf.image.resize(self._unsized, size)
        except LOAD_ERRORS as error:
            raise UserError(
                f'{path}: neither a frozen graph nor a SavedModel that TensorFlow can '
                f'load ({short_reason(error)})'
            ) from error

    def _load_frozen(self):
        graph_def = tf.GraphDef.FromString(Path(self.path).read_bytes())
        nodes = {node.name for node in graph_def.node}
        if not nodes:
            raise ValueError('it has no nodes')
        if {'ExpandDims', 'pool_3'} <= nodes:
            self.name = 'Inception'
            images = tf.placeholder(tf.float32, [None, None, None, 3])
            inputs, outputs = {'ExpandDims:0': images}, ['pool_3:0']
            (features,) = tf.import_graph_def(graph_def, inputs, outputs, name='')
            return images, features
        tf.import_graph_def(graph_def, name='')
        inputs = [n.name for n in graph_def.node if n.op == 'Placeholder']
        used = {i.split(':')[0].lstrip('^') for n in graph_def.node for i in n.input}
        outputs = [n.name for n in graph_def.node if n.name not in used]
        return self._only('placeholder', inputs), self._only('output', outputs)

    def _load_saved_model(self):
        with without_wildcards(self.path) as path:
            meta = tf.saved_model.load(self._sess, ['serve'], path)
        signature = meta.signature_def['serving_default']
        inputs = [tensor.name for tensor in signature.inputs.values()]
        outputs = [tensor.name for tensor in signature.outputs.values()]
        return self._only('input', inputs), self._only('output', outputs)

    def _only(self, kind, names):
        if len(names) != 1:
            found = ', '.join(names[:5]) or 'none'
            raise ValueError(f'it needs one {kind}, and has {found}')
        name = names[0] if ':' in names[0] else f'{names[0]}:0'
        return self._graph.get_tensor_by_name(name)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features, float32 [n, d], of images, uint8 [n, h, w, c]."""
        return np.concatenate([self._run(part) for part in parts(images)])

    def _run(self, images):
        _, height, width, channels = self._images.shape.as_list()
        if channels == 3 and images.shape[3] == 1:
            images = images.repeat(3, axis=3)
        elif channels == 1 and images.shape[3] == 3:
            images = images.mean(axis=3, keepdims=True)
        if height and width and images.shape[1:3] != (height, width):
            images = self._sess.run(self._resized, {self._unsized: images})
        images = images.astype(self._images.dtype.as_numpy_dtype)
        try:
            features = self._sess.run(self._features, {self._images: images})
            features = features.reshape(len(images), -1).astype(np.float32)
        except (tf.errors.OpError, ValueError) as error:
            raise UserError(
                f'{self.path}: cannot be run on these images ({short_reason(error)})'
            ) from error
        if not np.isfinite(features).all():
            raise UserError(f'{self.path}: gives features that are not finite')
        return features


def parts(images: np.ndarray, size: int = 50) -> Iterator[np.ndarray]:
    """Split images, or other rows, into parts of `size`."""
    return (images[i : i + size] for i in range(0, len(images), size))


def digest_of(path: str) -> str:
    """The SHA-256 of a file, or of all files in a folder in the order of names."""
    digest = hashlib.sha256()
    for file in sorted(Path(path).rglob('*'), key=str) or [Path(path)]:
        if not file.is_dir():
            digest.update(file.read_bytes())
    return digest.hexdigest()
