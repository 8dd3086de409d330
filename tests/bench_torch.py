"""Time the iteration of this project in PyTorch: python tests/bench_torch.py.

It makes the passes and updates of dcgan/training/fused_iteration.py, with its batch on
the device already, in channels_last. On a GPU in tf32 and by autocast to bfloat16,
eagerly and as one CUDA graph; on a CPU in float32, eagerly. Prints lines of a name, a
value and its unit, as bench.py --rows. PyTorch is not among the requirements.
"""

import argparse
import itertools
import math
import resource
import statistics
import sys
import timeit
from functools import partial

try:
    import torch
except ImportError:
    sys.exit('bench_torch.py: PyTorch is not installed (pip install torch)')
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as loss

GPU = torch.cuda.is_available()
DEVICE = 'cuda' if GPU else 'cpu'
Z, CLASSES = 100, 10
WIDTH, DENSE = 64, 1024  # of the first layers, of dense layers
conv = partial(nn.Conv2d, kernel_size=5, stride=2, padding=2)
deconv = partial(nn.ConvTranspose2d, **conv.keywords, output_padding=1)


class Network(nn.Module):
    """Blocks of layers; the labels y are appended to the input of each block."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(*block) for block in blocks)

    def forward(self, x, y=None):
        for block in self.blocks:
            if y is not None:
                labels = y.reshape(*y.shape, *[1] * (x.dim() - 2))
                x = torch.cat([x, labels.expand(*y.shape, *x.shape[2:])], 1)
            x = block(x)
        return x.float()


def networks(size, layers='4'):
    """G and D of model.py: for 'mnist', or for images that 2 ** layers divides."""
    relu, lrelu, norm = nn.ReLU(), nn.LeakyReLU(0.2), nn.BatchNorm2d
    if size == 'mnist':
        n, w, flat, d = CLASSES, 2 * WIDTH, 2 * WIDTH * 7 * 7, WIDTH + CLASSES
        to_images = nn.BatchNorm1d(flat), relu, nn.Unflatten(1, (w, 7, 7))
        to_dense = norm(d), lrelu, nn.Flatten()
        return Network(
            [nn.Linear(Z + n, DENSE), nn.BatchNorm1d(DENSE), relu],
            [nn.Linear(DENSE + n, flat), *to_images],
            [deconv(w + n, w), norm(w), relu],
            [deconv(w + n, 1), nn.Sigmoid()],
        ), Network(
            [conv(1 + n, 1 + n), lrelu],
            [conv(1 + 2 * n, d), *to_dense],
            [nn.Linear(d * 7 * 7 + n, DENSE), nn.BatchNorm1d(DENSE), lrelu],
            [nn.Linear(DENSE + n, 1)],
        )
    count = round(math.log2(int(size) / 4)) if layers == 'auto' else int(layers)
    filters = [WIDTH * min(2**i, 8) for i in range(count)]
    pairs, w, h = [*itertools.pairwise(filters)], filters[-1], int(size) >> count
    flat, to_images = w * h * h, nn.Unflatten(1, (w, h, h))
    return Network(
        [nn.Linear(Z, flat), to_images, norm(w), relu],
        *([deconv(b, a), norm(a), relu] for a, b in reversed(pairs)),
        [deconv(WIDTH, 3), nn.Tanh()],
    ), Network(
        [conv(3, WIDTH), lrelu],
        *([conv(a, b), norm(b), lrelu] for a, b in pairs),
        [nn.Flatten(), nn.Linear(flat, 1)],
    )


def build(size, layers, batch, **autocast):
    """A function that trains on one batch: losses of D on both batches, and of G."""
    place = {'device': DEVICE, 'memory_format': torch.channels_last}
    nets = [net.to(**place) for net in networks(size, layers)]
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    g_adam, d_adam = (adam(n.parameters(), fused=GPU, capturable=GPU) for n in nets)
    shape = (1, 28, 28) if size == 'mnist' else (3, int(size), int(size))
    pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8).to(**place)
    z = torch.rand(batch, Z, device=DEVICE) * 2 - 1
    one_hot = torch.eye(CLASSES, device=DEVICE).repeat(batch, 1)[:batch]
    y = [one_hot] if size == 'mnist' else []
    real, fake = (torch.full([batch, 1], x, device=DEVICE) for x in (1.0, 0.0))
    # outside of Network, because a cast of weights lives as long as the context
    G, D = (torch.autocast(DEVICE, torch.bfloat16, **autocast)(net) for net in nets)

    def update(adam, objective):
        weights = adam.param_groups[0]['params']
        for weight, gradient in zip(weights, torch.autograd.grad(objective, weights)):
            weight.grad = gradient
        adam.step()

    def iterate():
        images, drawn = pixels / 127.5 - 1, G(z, *y)
        update(d_adam, loss(D(images, *y), real) + loss(D(drawn.detach(), *y), fake))
        update(g_adam, loss(D(drawn, *y), real))
        update(g_adam, loss(D(G(z, *y), *y), real))
        with torch.no_grad():
            logits, logits_ = D(images, *y), D(G(z, *y), *y)
            pairs = (logits, real), (logits_, fake), (logits_, real)
            return torch.stack([loss(*pair) for pair in pairs])

    return iterate


def measure(size, layers, batch, iterations, kind, precision):
    """Print the median ms of an iteration and, on a CPU, the peak memory so far."""
    # in a graph, weights change in place, and their casts must not be kept
    is_half, is_graph = precision == 'bfloat16', kind == 'graph'
    step = iterate = build(
        size, layers, batch, enabled=is_half, cache_enabled=not is_graph
    )
    if is_graph:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                iterate()  # prepares what cannot be captured
        with torch.cuda.graph(graph):  # waits for the stream
            captured = iterate()
        step = lambda: graph.replay() or captured  # noqa: E731
    times = timeit.repeat(lambda: step().tolist(), number=1, repeat=iterations)
    times = times[max(1, iterations // 4) :] if iterations > 1 else times
    assert all(0 < value < 100 for value in step().tolist()), 'a loss is wrong'
    depth = '' if layers == '4' else f' {layers} layers'
    name = f'{size}{depth} {batch} torch-{precision}-{kind}'
    print(f'{name},{1e3 * statistics.median(times):.6g},ms', flush=True)
    if not GPU:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f'{name},{peak / 1000:.6g},peak_mb', flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', nargs='+', default=['mnist', '64'])
    parser.add_argument('--layers', default='4', help='of images: a number, or auto')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--iterations', type=int, default=200)
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision('high')
    for kind in ('eager', 'graph') if GPU else ('eager',):
        for precision in ('tf32', 'bfloat16') if GPU else ('float32',):
            for size in args.size:
                how = size, args.layers, args.batch, args.iterations
                measure(*how, kind, precision)
