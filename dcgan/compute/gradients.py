"""Give tensors gradients of our own, which are freed with their graph."""

import itertools
from collections.abc import Callable

import tensorflow.compat.v1 as tf

GRADIENT = 'DCGANGradient'  # its name in graphs


@tf.RegisterGradient(GRADIENT)
def _gradient(op, *dys):
    count, gradients = op.graph.gradients_of_ops[op.name]
    return [*[None] * count, *gradients(*dys[:count])]


def custom_gradient(results: list, gradients: Callable, *args) -> list[tf.Tensor]:
    """The results, tensors that were computed from args, with other gradients.

    gradients(*dys) returns one tensor for each of args. tf.custom_gradient does the
    same, but registers each call, with its graph, for the rest of the process.
    """
    for result in results:
        tf.identity(result)  # as tf.custom_gradient does: seeds count the ops
    graph = tf.get_default_graph()
    with graph.gradient_override_map({'IdentityN': GRADIENT}):
        tensors = tf.identity_n([*results, *args])
    graph.gradients_of_ops = getattr(graph, 'gradients_of_ops', {})
    graph.gradients_of_ops[tensors[0].op.name] = len(results), gradients
    return tensors[: len(results)]


def strip_custom_gradients(graph: tf.GraphDef) -> None:
    """Remove these gradients, which only this process knows, in place."""
    functions = [function.node_def for function in graph.library.function]
    for node in itertools.chain(graph.node, *functions):
        if node.op == 'IdentityN':
            node.attr.pop('_gradient_op_type', None)
