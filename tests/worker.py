"""tests/conformance/drive.py as one of several workers, which TF_CONFIG names.

    python tests/worker.py ARGUMENTS of drive.py

The driver knows nothing of workers: the model that it makes is shared by all of them.
"""

import functools
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dcgan.util.quiet_import import import_tensorflow

import_tensorflow()  # comes first, because it silences the log of TensorFlow

# isort: split
import tensorflow.compat.v1 as tf

import model
from dcgan.compute.cluster import read_cluster
from dcgan.compute.workers import Workers

if __name__ == '__main__':
    tf.disable_eager_execution()
    workers = Workers(read_cluster(os.environ['TF_CONFIG']), 60)
    workers.connect()
    session, own = tf.Session, {'config': workers.session_config()}
    tf.Session = lambda target=workers.target, **given: session(target, **own | given)
    model.DCGAN = functools.partial(model.DCGAN, workers=workers)
    driver = ROOT / 'tests' / 'conformance' / 'drive.py'
    runpy.run_path(str(driver), run_name='__main__')
