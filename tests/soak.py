"""Kill a real training run again and again, and compare it with one never stopped.

    python tests/soak.py [--kills 25] [--seed 0]

A small model, of pictures in random order, saves every third iteration. Each of its
lives ends at a random instant after a random iteration, by SIGKILL or, sometimes,
SIGTERM or SIGINT. Each has to go on from the newest checkpoint that the last one left
whole, every line has to show the losses of the run never stopped, and all that is saved
at the end, weights, averages, moments and random state, has to be its own bit for bit.
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

import main as _  # noqa: F401, I001, first: it imports TensorFlow without its log
from conftest import SMALL, clean_environment, command, stored, write_pictures

BATCHES = 20  # in an epoch
LINE = re.compile(r'\[ *(\d+) Epoch:.*(d_loss: \S+, g_loss: \S+)')
SAMPLE = re.compile(r'\[Sample\] (d_loss: \S+, g_loss: \S+)')


def losses(text):
    """{iteration: the losses that it printed, also those of samples}."""
    shown = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            counter = int(match[1])
            shown[counter] = match[2]
        elif match := SAMPLE.match(line):
            shown[counter] += f' {match[1]}'
    return shown


def live(folder, name, epochs, until=None, end=signal.SIGKILL, nap=0.0):
    """One life of the run `name`; text and exit status. Ends `nap` s after a line."""
    args = ['--dataset', 'cats', '--input_fname_pattern', '*.png', *SMALL]
    args += ['--epoch', epochs, '--ckpt_freq', 3, '--sample_freq', 10, '--seed', 1]
    lines = []
    with subprocess.Popen(
        command('main.py', '--train', '--out_name', name, *args),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            match = LINE.match(line)
            if until and match and int(match[1]) >= until:
                time.sleep(nap)
                process.send_signal(end)
                until = None
    return ''.join(lines), process.returncode


def soak(folder, kills, seed=0, iterations=None):
    """Prove it in a folder; prints a line a life. Raises AssertionError if it fails."""
    rng = random.Random(seed)
    epochs = -(-(iterations or 40 * kills) // BATCHES)
    write_pictures(os.path.join(folder, 'data', 'cats'), BATCHES * 8, size=(12, 12))
    text, status = live(folder, 'whole', epochs)
    expected = losses(text)
    assert status == 0 and len(expected) == epochs * BATCHES, text
    done = 0
    for life in range(kills):
        share = (len(expected) - done) // (kills - life)
        until = done + rng.randint(1, max(1, share))
        end = rng.choice([signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGINT])
        text, status = live(folder, 'killed', epochs, until, end, rng.uniform(0, 0.05))
        done = check_life(text, expected, done)
        statuses = {-end if end == signal.SIGKILL else 128 + end}
        if done == len(expected):  # it may have ended, or been about to, by itself
            statuses |= {0, -end}
        assert status in statuses, text
        told = re.findall(r' \[!\] .*(?:cannot be read).*', text)
        print(f'{life + 1:4d}: {end.name} in {done}', *told, flush=True)
    text, status = live(folder, 'killed', epochs)
    assert status == 0 and check_life(text, expected, done) == len(expected), text
    ends = [stored(f'{folder}/out/{name}/checkpoint') for name in ('whole', 'killed')]
    assert ends[0].keys() == ends[1].keys()
    for name, array in ends[0].items():
        assert array.tobytes() == ends[1][name].tobytes(), name


def check_life(text, expected, done):
    """The last iteration of a life, which began where the one before had saved."""
    shown = losses(text)
    if not shown:  # the one before was killed after its last checkpoint
        assert done == len(expected) and 'epochs are done' in text, text
        return done
    began = min(shown)
    assert max(1, done - 5) <= began <= done + 1, (began, done, text)
    last = max(shown)  # which may have been killed before it showed its samples
    assert expected[last].startswith(shown.pop(last)), text
    assert all(expected[counter] == line for counter, line in shown.items()), text
    return last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=25)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(folder, args.kills, args.seed)
    print(f'{args.kills} kills, and the same losses, weights and state')


if __name__ == '__main__':
    main()
