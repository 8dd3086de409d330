"""Run Inception, or another frozen graph or SavedModel, for features of images.

Every extractor, also the one in classifier.py, has `name`, for tables, `digest`, the
SHA-256 of its file or weights, and `features`: uint8 [n, h, w, c] -> float32 [n, d].
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.errors import UserError
from dcgan.util.files import read_errors, without_wildcards


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
        problem = 'neither a frozen graph nor a SavedModel that TensorFlow can load'
        with read_errors(path, problem), self._graph.as_default():
            self._images, self._features = load()
            if self._images.shape.ndims != 4:
                raise ValueError('its input is not [any, h, w, channels]')
            self._unsized = tf.placeholder(tf.float32, [None, None, None, None])
            size, resized = self._images.shape[1:3], self._unsized
            if size.is_fully_defined():
                resized = tf.image.resize(self._unsized, size)
            self._fed = tf.cast(resized, self._images.dtype)

    def _load_frozen(self):
        graph_def = tf.GraphDef.FromString(Path(self.path).read_bytes())
        if {'ExpandDims', 'pool_3'} <= {node.name for node in graph_def.node}:
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
        chunks = np.split(images, range(50, len(images), 50))
        return np.concatenate([self._run(chunk) for chunk in chunks])

    def _run(self, images):
        channels = self._images.shape[3]
        if channels == 3 and images.shape[3] == 1:
            images = images.repeat(3, axis=3)
        elif channels == 1 and images.shape[3] == 3:
            images = images.mean(axis=3, keepdims=True)
        images = self._sess.run(self._fed, {self._unsized: images})
        with read_errors(self.path, 'cannot be run on these images'):
            features = self._sess.run(self._features, {self._images: images})
            features = features.reshape(len(images), -1).astype(np.float32)
        if not np.isfinite(features).all():
            raise UserError(f'{self.path}: gives features that are not finite')
        return features


def digest_of(path: str) -> str:
    """The SHA-256 of a file, or of all files in a folder in the order of names."""
    digest = hashlib.sha256()
    for file in sorted(Path(path).rglob('*'), key=str) or [Path(path)]:
        if not file.is_dir():
            digest.update(file.read_bytes())
    return digest.hexdigest()
