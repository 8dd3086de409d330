"""Break one line at a time: do the quick tests of its folder notice?

python tests/mutate.py [compute ...]   in these folders of dcgan/; .. is the top
python tests/mutate.py --check         are all lines there?
"""

import subprocess
import sys
import tempfile
from pathlib import Path

# a folder of dcgan/ and the tests that belong to it, then file: text -> its replacement
LINES = """
util folders images which_run samples options hostile_files tables
files.py: if real in seen: -> if real not in seen:
files.py: and not process_exists -> and process_exists
files.py: for member in members) > most -> for member in members) > 2 * most
npz.py: * dtype.itemsize > member -> * dtype.itemsize < member
flags.py: if {*marks} & {*flag -> if {*marks} - {*flag
z.py: uniform(-1, 1, size) -> uniform(0, 1, size)
compute kernels ops workers
batch_norm.py: q = 1 - (1 - m) * (1 + m**2) -> q = 1 - (1 - m) * (1 + m)
batch_norm.py: points / max(1, points - 1) -> points / max(1, points)
kernels.py: (kernel - stride) // 2 -> (kernel - stride + 1) // 2
kernels.py: [0, 1]], constant_values=1) -> [0, 1]], constant_values=0)
cluster.py: or not 0 < int( -> or not 0 <= int(
cluster.py: (first := tasks[places.index(place)]) != task -> (first := task) != task
cluster.py: == task.tf_name -> != ''
workers.py: = divmod(joint_batch, self.count) -> = joint_batch, 0
data images labels data folders download tables
image_folder.py: = len(self) // 100 -> = len(self) // 10
image_folder.py: np.roll(order, -end) -> np.roll(order, end)
images.py: + 0.5).astype(np.uint8) -> ).astype(np.uint8)
images.py: int(round((size - crop) / 2.0)) -> int((size - crop) / 2.0)
labels.py: .setdefault(name, label) != label: -> .setdefault(name, label) == label:
names.py: if len(both) > 1: -> if len(both) > 2:
resumable_download.py: if sent else 0 -> if sent else start
record record model tables
curves.py: (2 * SMOOTHED)) + 1) -> (2 * SMOOTHED)))
curves.py: or 'mpl-data' in str(path) -> or 'mpl-data' not in str(path)
metrics_csv.py: [:, 0] <= last_iteration -> [:, 0] < last_iteration
tensorboard.py: if of_g >= 0 and -> if of_g > 0 and
recorder.py: d_loss < WON_LOSS -> d_loss > WON_LOSS
training options averages runs model older_checkpoints best
checkpoints.py: [: -self.max_to_keep - extra] -> [: -self.max_to_keep]
checkpoints.py: if batch >= images // -> if batch > images //
ema.py: kept = tf.minimum( -> kept = tf.maximum(
fused_iteration.py: stands_for=d_steps + 1) -> stands_for=d_steps)
options.py: sum(epoch >= e for -> sum(epoch > e for
loop.py: if first == 0: -> if first == 1:
best.py: is_same and note['value'] >= -> is_same and note['value'] >
best.py: if self.is_beaten(note): -> if True:
regularization.py: weight / 2 * tf.reduce_mean -> weight * tf.reduce_mean
state.py: np.int64(at.epoch + at.ends_epoch) -> np.int64(at.epoch)
weights.py: unless not in names.values() -> unless in names.values()
weights.py:     return matrix[0] - shapes -> return matrix[1] - shapes
sampling samples filters changing
filters.py: [passed * tf.nn.relu(dy)] -> [passed * dy]
filters.py: in unusable for i -> not in unusable for i
filters.py: argmax(units, 1) -> argmin(units, 1)
samples.py: z[rows]})[:count] -> z[rows]})[:]
visualize.py: - rows[1][-1] + rows[2][-1] -> + rows[1][-1] - rows[2][-1]
runs which_run labels main
flags_json.py: is_outside and (os.path -> is_outside or (os.path
run.py: (is_name and not os.path.exists -> (is_name and os.path.exists
settings.py: config.grayscale = c_dim == 1 -> config.grayscale = c_dim == 3
evaluation metrics measures evaluation graphs
encode.py: count = min(CELLS, size) -> count = CELLS
fid.py: - 2 * roots.sum() -> - roots.sum()
kid.py: count * (count - 1)) -> count * count)
ms_ssim.py: == WEIGHTS[-1]: -> == WEIGHTS[0]:
nearest.py: - ranks / 2) -> - ranks)
sliced_wasserstein.py: else 'reflect' -> else 'symmetric'
sliced_wasserstein.py: repeated if as_mmgeneration -> repeated if not as_mmgeneration
inversion inversion
anomaly.py: percentiles >= limit -> percentiles > limit
complete.py: near * ~holes, 1 -> near, 1
invert.py: 2 * PULL * z -> 0 * z
invert.py: losses.argmin(1) -> losses.argmax(1)
pictures.py: (limit) -> (limit - 1)
page page
drawing.py: if request.number < self -> if request.number <= self
drawing.py: {'max_pixels': MAX_PIXELS} -> {'max_pixels': None}
requests.py: 0 <= label < classes -> 0 <= label <= classes
server.py: if is_proxy or is_foreign or -> if is_foreign or
server.py: hosts.count(host) < most -> hosts.count(host) <= most
.. ops images download main model options
download.py: and args.limit < 1: -> and args.limit > 1:
main.py: if seed is not None: -> if seed is None:
model.py: cross_entropy(D_logits_, 1), -> cross_entropy(D_logits_, 0),
ops.py: (1 - momentum) * (average - value) -> momentum * (average - value)
utils.py: image / 127.5 - 1.0 -> image / 127.5 + 1.0
"""


def fails(checkout, files):  # 1: a test fails, 2: a file cannot be imported
    command = [sys.executable, '-m', 'pytest', '-qx', *files]
    return subprocess.call(command, cwd=checkout, stdout=subprocess.DEVNULL) in (1, 2)


if __name__ == '__main__':
    chosen, missed = sys.argv[1:], 0
    with tempfile.TemporaryDirectory() as copy:
        found = Path(__file__).parents[1].glob('[!.]*')
        sources = [path for path in found if path.name not in ('data', 'out')]
        subprocess.check_call(['cp', '-r', *sources, copy])
        for line in LINES.strip().splitlines():
            name, _, change = line.partition(': ')
            if not change:
                folder, *tests = line.split()
                files = [f'tests/test_{test}.py' for test in tests]
                is_tried = folder in (chosen or [folder])
                assert not is_tried or not fails(copy, files), f'these fail now: {line}'
                continue
            path, (old, new) = Path(copy, 'dcgan', folder, name), change.split(' -> ')
            text = path.read_text()
            assert text.count(old) == 1, f'{folder}: not there, or not once: {line}'
            if is_tried:
                path.write_text(text.replace(old, new))
                result = 'caught' if fails(copy, files) else 'MISSED'
                path.write_text(text)
                missed += result == 'MISSED'
                print(f'{result} {folder}/{line}')
    sys.exit(missed > 0)
