"""One worker of test_workers.py, by the class DCGAN instead of main.py.

    python tests/worker.py train SETTINGS.json OUT.npz
    python tests/worker.py drive ARGUMENTS of tests/conformance/drive.py

TF_CONFIG says which worker it is. `train` trains a tiny model and writes the losses of
each iteration, and all variables after the last one.
"""

import functools
import json
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dcgan.util.quiet_import import import_tensorflow

import_tensorflow()  # comes first, because it silences the log of TensorFlow

# isort: split
import numpy as np
import tensorflow.compat.v1 as tf

import model
from dcgan.compute import batch_norm
from dcgan.compute.cluster import read_cluster
from dcgan.compute.workers import Workers
from dcgan.record.metrics_csv import read_rows

CONFIG = dict(learning_rate=0.0002, beta1=0.5, epoch=1, train_size=np.inf)
CONFIG |= dict(z_dist='uniform_signed', sample_freq=4, ckpt_freq=1000, G_img_sum=False)


def main():
    tf.disable_eager_execution()
    workers = Workers(read_cluster(os.environ.get('TF_CONFIG', '')), 60)
    workers.connect()
    if sys.argv[1] == 'train':
        train(workers, json.loads(Path(sys.argv[2]).read_text()), sys.argv[3])
    else:
        drive(workers, sys.argv[2:])


def train(workers, settings, path):
    if not settings.pop('joint_statistics', True):
        batch_norm.current = lambda: None
    folder = f'{path}.run'
    folders = {
        'out_dir': folder,
        'checkpoint_dir': f'{folder}/checkpoint',
        'sample_dir': f'{folder}/samples',
    }
    config = SimpleNamespace(**{**CONFIG, **settings['config'], **folders})
    np.random.seed(1 + workers.index)  # what they draw has to be the chief's
    with tf.Session(workers.target, config=workers.session_config()) as sess:
        tf.set_random_seed(1 + workers.index)
        options = {**settings['dcgan'], **folders}
        dcgan = model.DCGAN(sess, workers=workers, **options)
        dcgan.train(config)
        variables = tf.global_variables()
        arrays = dict(zip((v.op.name for v in variables), sess.run(variables)))
    arrays['random_key'] = np.random.get_state()[1]
    if workers.is_chief:
        rows = read_rows(f'{folder}/metrics.csv')
        arrays['metrics'] = np.delete(rows, 3, axis=1)  # without seconds
    np.savez(path, **arrays)


def drive(workers, arguments):
    """Run the driver of the recordings; its model is shared by all workers."""
    session, dcgan = tf.Session, model.DCGAN

    def joint_session(*args, **options):
        if not args and not options:
            args, options = [workers.target], {'config': workers.session_config()}
        return session(*args, **options)

    tf.Session = joint_session
    model.DCGAN = functools.partial(dcgan, workers=workers)
    sys.argv = ['drive.py', *arguments]
    runpy.run_path(
        str(ROOT / 'tests' / 'conformance' / 'drive.py'), run_name='__main__'
    )


if __name__ == '__main__':
    main()
