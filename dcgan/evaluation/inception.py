"""Run Inception, or another frozen graph or SavedModel, for features of images.

Every extractor, also the one in classifier.py, has `name`, for tables, `digest`, the
SHA-256 of its file or weights, and `features`: uint8 [n, h, w, c] -> float32 [n, d].
"""

import graphlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from dcgan.util.errors import UserError, printable
from dcgan.util.files import open_file, read_errors, read_file, without_wildcards

ADVICE = 'give another; of a Keras model, the folder that model.export(FOLDER) writes'
# ops, by TensorFlow's module, that have nothing to do with files, network or Python
COMPUTING = re.compile(
    r"""(?x).*gen_(array|bitwise|control_flow|cudnn_rnn|functional|image|linalg|list|
    lookup|manip|math|nn|parsing|ragged_[a-z]+|random|resource_variable|rnn|sparse|
    special_math|spectral|state|stateful_random|stateless_random|string|
    uniform_quant)_ops(_v2)?\.(?!Abort|ImmutableConst|RemoteCall|Symbolic|.*TextFile)|
    .*gen_(data_flow|logging)_ops\.(Assert|(Parallel)?Dynamic|Stack|TensorArray)"""
)
# those that load a SavedModel: they read files, but cannot make the name of a file
LOADING = re.compile(
    r"""(?x).*gen_(array|control_flow|functional|lookup|math|resource_variable|state)_ops
    (_v2)?\.(?!Abort|ImmutableConst|RemoteCall|Symbolic)|.*gen_io_ops\.Restore"""
)
INIT_KEYS = {'__saved_model_init_op', 'saved_model_main_op', 'legacy_init_op'}


class GraphExtractor:
    """Features by a frozen graph, which is a file, or a SavedModel, which is a folder.

    It needs one input for images [any, h, w, 1 or 3] in [0, 255], which are resized to
    fixed h and w, and one output, which is flattened. Inception has nodes ExpandDims
    and pool_3, and resizes images itself. UserError for a file that is no such graph.
    """

    def __init__(self, path: str):
        self.path, self.name = path, os.path.basename(os.path.normpath(path))
        self._sess = tf.Session(graph=tf.Graph())
        load = self._load_saved_model if os.path.isdir(path) else self._load_frozen
        problem = 'neither a frozen graph nor a SavedModel that TensorFlow can load'
        with read_errors(path, problem, ADVICE), self._sess.graph.as_default():
            self.digest, record = digest_of(path), f'{path}.sha256'
            digest = [self.digest.encode()]
            if os.path.exists(record) and read_file(record, bytes.split)[:1] != digest:
                raise ValueError(f'its SHA-256 is not that in {record}')
            self._images, self._features = load()
            if self._images.shape.ndims != 4:
                raise ValueError('its input is not [any, h, w, channels]')
            self._unsized = tf.placeholder(tf.float32, [None, None, None, None])
            size, resized = self._images.shape[1:3], self._unsized
            if size.is_fully_defined():
                resized = tf.image.resize(self._unsized, size)
            self._fed = tf.cast(resized, self._images.dtype)

    def _load_frozen(self):
        if self.path.endswith(('.keras', '.h5')):
            raise ValueError('it is a file of Keras')
        with open_file(self.path) as file:
            graph_def = tf.GraphDef.FromString(file.read())
        used = {i.split(':')[0].lstrip('^') for n in graph_def.node for i in n.input}
        inputs = [n.name for n in graph_def.node if n.op == 'Placeholder']
        outputs = [n.name for n in graph_def.node if n.name not in used]
        fed = {}
        if {'ExpandDims', 'pool_3'} <= {node.name for node in graph_def.node}:
            self.name, outputs = 'Inception', ['pool_3']
            fed = {'ExpandDims:0': tf.placeholder(tf.float32, [None, None, None, 3])}
        computing = self._computing(graph_def, outputs, COMPUTING)
        tf.import_graph_def(computing, fed, name='')
        images = [*fed.values()] or [self._only('placeholder', inputs)]
        return *images, self._only('output', outputs)

    def _load_saved_model(self):
        with without_wildcards(self.path) as path:
            loader = SavedModelLoader(path)
            meta = loader.get_meta_graph_def_from_tags(['serve'])
            signature = meta.signature_def['serving_default']
            inputs = [tensor.name for tensor in signature.inputs.values()]
            outputs = [tensor.name for tensor in signature.outputs.values()]
            run = [meta.saver_def.restore_op_name]
            assets = {f.tensor_info.name: f.filename for f in meta.asset_file_def}
            for key in INIT_KEYS & {*meta.signature_def}:
                run += [t.name for t in meta.signature_def[key].outputs.values()]
            for key in INIT_KEYS & {*meta.collection_def}:
                run += meta.collection_def[key].node_list.value
            loading = self._computing(meta.graph_def, run, LOADING)
            if others := [*other_files(loading, assets)]:
                raise ValueError(f'loading it would read {printable(others[0])}')
            self._computing(meta.graph_def, outputs, COMPUTING)
            run = meta.graph_def, [*outputs, *run, *assets], COMPUTING, LOADING
            meta.graph_def.CopyFrom(self._computing(*run))
            is_kept = INIT_KEYS.__contains__  # others name what may be gone
            loader.load(self._sess, ['serve'], restore_collections_predicate=is_kept)
        return self._only('input', inputs), self._only('output', outputs)

    def _computing(self, graph, outputs, *allowed):
        """The part of a graph that outputs need; UserError for ops not `allowed`."""
        names = [name.split(':')[0] for name in outputs if name]
        needed = tf.graph_util.extract_sub_graph(graph, names)
        # an import runs ops for their shapes, and functions are exchanged for others
        needed.ClearField('library')
        functions = {f.signature.name: f for f in graph.library.function}
        for node in needed.node:
            node.attr.pop('_class', None)  # the place of a node that may be gone
        waiting, seen, refused = [('', node) for node in needed.node], {''}, set()
        callers = graphlib.TopologicalSorter()  # of functions
        while waiting:
            caller, node = waiting.pop()  # or a function in an attribute
            for value in node.attr.values():
                waiting += [(caller, f) for f in (value.func, *value.list.func)]
            name = getattr(node, 'op', node.name)
            module = getattr(getattr(tf.raw_ops, name, None), '__module__', '')
            if name in functions:
                callers.add(name, caller)
            if name in functions and name not in seen:
                needed.library.function.append(functions[name])
                waiting += [(name, node) for node in functions[name].node_def]
            elif not any(ops.match(f'{module}.{name}') for ops in allowed):
                refused |= {name} - seen
            seen.add(name)
        callers.prepare()  # ValueError for what calls itself: TensorFlow would crash
        if refused:
            problem = 'needs ops that may use files, the network or Python'
            names = ', '.join(sorted(refused))
            raise UserError(f'{self.path}: {problem}: {names}; give another network')
        return needed

    def _only(self, kind, names):
        if len(names) != 1:
            found = ', '.join(names[:5]) or 'none'
            raise ValueError(f'it needs one {kind}, and has {found}')
        name = names[0] if ':' in names[0] else f'{names[0]}:0'
        return self._sess.graph.get_tensor_by_name(name)

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
        with read_errors(self.path, 'cannot be run on these images', ADVICE):
            features = self._sess.run(self._features, {self._images: images})
            features = features.reshape(len(images), -1).astype(np.float32)
        if not np.isfinite(features).all():
            raise UserError(f'{self.path}: gives features that are not finite')
        return features


def other_files(graph, assets: dict[str, str]) -> Iterator[str]:
    """Yield what a graph names that is a file or an address, but not one of assets."""
    yield from (name for name in assets.values() if name != os.path.basename(name))
    for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]:
        if node.op == 'Const' and f'{node.name}:0' not in assets:
            for text in node.attr['value'].tensor.string_val:
                name = os.fsdecode(text.split(b'\0')[0])
                is_file = os.path.lexists(name) and not os.path.isdir(name)
                if is_file or '://' in name:
                    yield name


def digest_of(path: str) -> str:
    """The SHA-256 of a file, or of all files in a folder in the order of names."""
    digest = hashlib.sha256()
    for file in sorted(Path(path).rglob('*'), key=str) or [Path(path)]:
        if not file.is_dir():
            with open_file(file) as opened:
                digest.update(opened.read())
    return digest.hexdigest()
