"""Kill a training run again and again; compare it with one that is never stopped.

    python tests/soak.py [--kills 25] [--seed 0] [-- further flags of main.py]
    python tests/soak.py --kills 10 -- --workers 2    kills any of the workers

Both runs train a small model on images in random order, with a checkpoint every third
iteration. One is trained by many processes, each of which is killed at a random instant
after a random iteration, by SIGKILL or, less often, by SIGTERM or SIGINT. Each process
has to resume from the newest complete checkpoint of the process before it, and to print
the same losses as the run that is never stopped. Everything in the final checkpoint has
to be equal bit for bit, and metrics.csv has to be the same but for seconds.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from conftest import SMALL, command, read_checkpoint, with_pipes, write_images

from dcgan.record.metrics_csv import read_rows

BATCHES_PER_EPOCH = 20
BATCH_SIZE = 8  # as in SMALL
LINE = re.compile(r'\[ *(\d+) Epoch:.*(d_loss: \S+, g_loss: \S+)')
SAMPLE = re.compile(r'\[Sample\] (d_loss: \S+, g_loss: \S+)')


def losses(text: str) -> dict[int, str]:
    """Find the printed losses of each iteration, and of its [Sample] line."""
    printed = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            iteration = int(match[1])
            printed[iteration] = match[2]
        elif match := SAMPLE.match(line):
            printed[iteration] += f' {match[1]}'
    return printed


def train(folder, flags, kill_at=None, kill_signal=signal.SIGKILL, delay=0.0, victim=0):
    """Train a run with these flags in a new process; returns its output and status.

    The process gets `kill_signal` `delay` seconds after it prints iteration `kill_at`;
    or one of its workers does, if `victim` is not 0.
    """
    args = ['--dataset', 'cats', '--input_fname_pattern', '*.png', *SMALL]
    args += ['--ckpt_freq', 3, '--sample_freq', 10, '--seed', 1]
    lines = []
    line = command('main.py', '--train', *args, *flags)
    options = {**with_pipes(folder), 'stderr': subprocess.STDOUT}
    with subprocess.Popen(line, **options) as process:
        for line in process.stdout:
            lines.append(line)
            match = LINE.match(line)
            if kill_at and match and int(match[1]) >= kill_at:
                time.sleep(delay)
                find = ['pgrep', '-P', str(process.pid), '-f', 'main.py']
                found = subprocess.run(find, stdout=subprocess.PIPE).stdout.split()
                os.kill([process.pid, *map(int, found)][victim], kill_signal)
                kill_at = None
    return ''.join(lines), process.returncode


def soak(folder, kills, seed, flags=()):
    """Run the comparison in `folder`. Raises AssertionError if the runs differ.

    `seed` decides when the processes are killed, and by which signals. `flags` are
    further flags of main.py.
    """
    print(f'soak: seed {seed}', flush=True)
    rng = random.Random(seed)
    workers = int(flags[flags.index('--workers') + 1]) if '--workers' in flags else 1
    epochs = 2 * kills
    image_count = BATCHES_PER_EPOCH * BATCH_SIZE
    write_images(os.path.join(folder, 'data', 'cats'), image_count, size=(12, 12))
    flags = ['--epoch', epochs, *flags, '--out_name']
    text, status = train(folder, [*flags, 'never_stopped'])
    expected = losses(text)
    assert status == 0 and len(expected) == epochs * BATCHES_PER_EPOCH, text
    done = 0  # the last iteration that the killed run has printed
    for i in range(kills):
        share = (len(expected) - done) // (kills - i)
        kill_at = done + rng.randint(1, max(1, share))
        number = rng.choice([signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGINT])
        delay = rng.uniform(0, 0.05)
        victim = rng.randrange(workers)
        text, status = train(folder, [*flags, 'killed'], kill_at, number, delay, victim)
        done = check_process(text, expected, done)
        statuses = {-number if number == signal.SIGKILL else 128 + number}
        if victim:  # the chief says that it was lost, or stops with it
            statuses = {1 if number == signal.SIGKILL else 128 + signal.SIGTERM}
        if done == len(expected):  # the process may have been ending by itself
            statuses |= {0, -number}
        assert status in statuses, text
        warnings = re.findall(r' \[!\] .*(?:cannot be read).*', text)
        name = f'{number.name} to worker {victim}' if workers > 1 else number.name
        print(f'{i + 1:4d}: {name} in {done}', *warnings, flush=True)
    text, status = train(folder, [*flags, 'killed'])
    assert status == 0 and check_process(text, expected, done) == len(expected), text
    runs = [f'{folder}/out/{name}' for name in ('never_stopped', 'killed')]
    reference, resumed = (read_checkpoint(f'{run}/checkpoint') for run in runs)
    assert reference.keys() == resumed.keys()
    for name, array in reference.items():
        assert array.tobytes() == resumed[name].tobytes(), name
    # without seconds
    metrics = [np.delete(read_rows(f'{run}/metrics.csv'), 3, axis=1) for run in runs]
    assert np.array_equal(*metrics, equal_nan=True) and len(metrics[0]) == len(expected)


def check_process(text, expected, done):
    """Check the output of one process; returns the last iteration that it printed.

    `done` is the last iteration that the process before it printed.
    """
    printed = losses(text)
    if not printed:  # the process before was killed after the final checkpoint
        assert done == len(expected) and 'epochs are done' in text, text
        return done
    first, last = min(printed), max(printed)
    assert max(1, done - 5) <= first <= done + 1, (first, done, text)
    # the process may have been killed before it printed the last [Sample] line
    assert expected[last].startswith(printed.pop(last)), text
    assert all(expected[n] == line for n, line in printed.items()), text
    return last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=25)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('flags', nargs='*', help='further flags of main.py, after --')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(folder, args.kills, args.seed, flags=args.flags)
    print(f'{args.kills} kills: losses, weights, state and metrics are the same')


if __name__ == '__main__':
    main()
