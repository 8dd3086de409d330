"""Train DCGAN, or draw samples from a trained model.

  python main.py --dataset mnist --train         digits, in data/mnist
  python main.py --dataset mnist                 samples of the newest run
  python main.py --dataset celebA --crop --train 64x64 faces, in data/celebA
  python main.py --dataset digits --train        digits that are drawn first
  python main.py --dataset cats --input_fname_pattern '*.png' --train
  python main.py --out_name NAME --train         resume the run of that name

A run is a folder in --out_dir: FLAGS.json, checkpoint/, samples/, logs/, lock.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import traceback
from inspect import signature

from dcgan.util import quiet_import

HANDLERS = {}  # of signals, from before
if __name__ == '__main__':  # Ctrl-C ends the import, which takes seconds, at once
    HANDLERS[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_DFL)

quiet_import.import_tensorflow()

# ruff: noqa: E402
import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute import precision
from dcgan.compute import workers as several
from dcgan.compute.devices import print_device
from dcgan.compute.session import repeat_results
from dcgan.data import dataset
from dcgan.data.image_folder import ImageSet, UnusableImages
from dcgan.data.images import ignore_pillow_warnings
from dcgan.evaluation import modes as evaluation
from dcgan.inversion import modes as inversion
from dcgan.page import server
from dcgan.page import share as sharing
from dcgan.record.curves import draw_runs
from dcgan.runs import command_line, recipes, settings
from dcgan.runs.flags_json import with_origins
from dcgan.runs.launch_workers import FORESEEN, joined, reported
from dcgan.sampling import export, onnx_tflite, samples
from dcgan.sampling import visualize as visualization
from dcgan.training import network_size, options
from dcgan.training.user_model import original_style
from dcgan.util.errors import Interrupted, UserError
from dcgan.util.flags import Flag, Flags, Group
from dcgan.util.output import Extra, error_line, escape_output, print_line
from dcgan.util.signals import interrupt, stop_signals
from dcgan.util.z import Z_DISTRIBUTIONS as DISTRIBUTIONS
from model import DCGAN
from utils import show_all_variables, visualize

tf.disable_eager_execution()
FLAGS = tf.app.flags.FLAGS
PATTERN = """Glob of the image files; ** for nested folders; without this flag, other
types of images are used if there is no *.jpg"""
OUT_NAME = """Name of the run folder; default: when training, a new name made of the
time and the settings; otherwise the newest run of --dataset"""
MODEL, SIZE, LEARNED = 'model result', 'model result size', 'training result'
ORIGINAL = Group(
    "The original's flags",
    'what to train, on what, and where the run lies',
    Flag('train', False, 'Train a model; without it, use a trained one', 'task'),
    Flag('epoch', 25, 'Epochs of the whole training', 'training', least=1),
    Flag('learning_rate', 0.0002, 'Learning rate of both optimizers', LEARNED, least=0),
    Flag('beta1', 0.5, 'beta1 of both Adam optimizers', LEARNED, least=0, most=0.9999),
    Flag('train_size', np.inf, 'Images used in an epoch, at most', LEARNED, least=1),
    Flag('batch_size', 64, 'Images in a batch', MODEL, least=1),
    Flag('input_height', 108, 'Height of the center crop in pixels', SIZE, least=1),
    Flag('input_width', None, 'Width of the crop; default: height', SIZE, int, least=1),
    Flag('output_height', 64, 'Height of generated images in pixels', SIZE, least=1),
    Flag('output_width', None, 'Width of images; default: height', SIZE, int, least=1),
    Flag('dataset', 'celebA', 'Folder in --data_dir: images, IDX, batches', 'model'),
    Flag('input_fname_pattern', '*.jpg', PATTERN, 'data result'),
    Flag('data_dir', './data', 'Folder of the data sets', 'data path local'),
    Flag('out_dir', './out', 'Folder of the run folders', 'path run'),
    Flag('out_name', '', OUT_NAME, 'path run'),
    Flag('checkpoint_dir', 'checkpoint', 'Folder of checkpoints in a run', 'path run'),
    Flag('sample_dir', 'samples', 'Folder of images in a run', 'path'),
    Flag('crop', False, 'Use the center of images; see --input_height', 'data result'),
    Flag('max_to_keep', 1, 'Checkpoints to keep; 0 keeps all', 'training', least=0),
    Flag('sample_freq', 200, 'Iterations between image grids', 'training', least=1),
    Flag('ckpt_freq', 200, 'Iterations between checkpoints', 'training', least=1),
    Flag('z_dim', 100, 'Dimensions of z', MODEL, least=1),
    Flag('z_dist', 'uniform_signed', 'Distribution of z', MODEL, choices=DISTRIBUTIONS),
    Flag('G_img_sum', False, 'Write generated images to TensorBoard', 'training'),
    Flag('visualize', False, 'Draw what --visualize_option says', 'task'),
    Flag('export', False, 'Write the weights to export_b{batch_size}', 'export'),
    Flag('freeze', False, 'Write the sampler as a frozen graph', 'export'),
)
TASKS = Group(
    'Tasks',
    '--evaluate, --encode, --page, --curves, --gif, --onnx, ...',
    Flag('evaluate', False, 'Compare samples with the data set', 'task'),
    Flag('encode', '', "Write D's features of images to this .npz file", 'path task'),
    Flag('page', False, 'Serve a page on which to explore the model', 'task'),
    Flag('curves', '', 'Draw the curves of runs, as in RUN,RUN, and end', 'task'),
    Flag('gif', False, 'Make an animation of image grids', 'training local task'),
    Flag('saved_model', False, 'Write the sampler as a SavedModel', 'export'),
    Flag('onnx', False, 'Write the sampler as an ONNX file', 'export'),
    Flag('tflite', False, 'Write the sampler as a TFLite file', 'export'),
    Flag('debug', False, 'Print the traceback before an error message'),
)
PARTS = [network_size, recipes, options, dataset, precision, several, samples]
PARTS += [visualization, evaluation, inversion, server, sharing]
TABLE = Flags([ORIGINAL, TASKS, *(part.FLAGS for part in PARTS)])
PARAMETERS = [*signature(DCGAN).parameters, *signature(ImageSet).parameters]


def main(argv, model=DCGAN):
    config = command_line.read_flags(argv, TABLE)
    onnx_tflite.check_packages(config)
    sharing.check(config)
    if config.workers > 1 and model is not DCGAN:
        raise UserError('--workers starts main.py, without your model; set TF_CONFIG')
    try:
        with reported(config), tf.Graph().as_default():  # main() may run again
            if config.curves:
                return draw_runs(config.curves, config.out_dir)
            if not config.train:
                settled = settings.settle_use(config, TABLE)
                return use(config, model, several.Workers(), settled)
            with joined(config, TABLE, __file__) as (workers, settled):
                use(config, model, workers, settled)
    except UnusableImages as error:
        raise error.name_all(config.out_dir) from error


def use(config, model, workers, settled):
    """Build the model, train or load it, and write what is asked."""
    arguments = settings.model_arguments(config, TABLE, settled, PARAMETERS)
    seed, run = config.seed, settled.run
    repeat_results(seed)
    with (
        contextlib.closing(run) if run else contextlib.nullcontext(),
        tf.Session(workers.target, config=workers.session_config()) as sess,
    ):
        if config.train and run:
            run.lock()
        dcgan = model(sess, **arguments, workers=workers)
        if config.train:
            checkpoint = prepare(dcgan, config, workers, run)
        if seed is not None:  # IDX files have seeded NumPy with 547
            np.random.seed(seed)
        command_line.print_flags(config, TABLE)
        show_all_variables()
        if config.train:
            none = 'none (--seed N repeats a run)'
            print(f' [*] Seed: {none if seed is None else seed}')
            print_device(config.precision)
            print(network_size.size_line(dcgan, config))
            print_line(f' [*] {config.dataset}: {dcgan.data.contents}')
            step = dcgan.train(config, checkpoint)
        else:
            path = settled.checkpoint
            _, step = dcgan.load(config.checkpoint_dir, config.resume_step, path)
            which = 'Run' if config.out_name else f'Newest run of {config.dataset}:'
            print_line(f' [*] {which} {config.out_dir}, iteration {step}')
        if run:
            run.close()
            write_outputs(sess, dcgan, config, step)


def prepare(dcgan, config, workers, run):
    """Check what is to be trained, and start the run. Returns its checkpoint."""
    if workers.count > 1:
        workers.require_same({'data': dcgan.data.digest(by_time=False)})
    recipes.apply_to_few(config, TABLE, len(dcgan.data))
    config.augment, *_ = workers.exchange(config.augment)  # the chief's
    checkpoint = dcgan.check(config)
    evaluation.while_training(dcgan, config)
    if not (config.out_name or os.path.isabs(config.checkpoint_dir)):
        checkpoint = None  # the run gets a new folder
    if original_style(dcgan):  # the run records what its checkpoints do not tell
        config.y_dim, config.c_dim = dcgan.y_dim, dcgan.c_dim
    if run:
        run.start(config, dcgan.data.class_names or [])
        dcgan.out_dir, dcgan.checkpoint_dir = run.folder, run.checkpoint_dir
        dcgan.sample_dir = run.sample_dir
    return checkpoint


def write_outputs(sess, dcgan, config, step):
    """Write what the flags ask for."""
    todo = settings.tasks(config, TABLE)
    export.write_exports(dcgan, config, step)
    onnx_tflite.write(dcgan, config, step)
    if 'visualize' in todo:
        visualize(sess, dcgan, config, config.visualize_option, config.sample_dir)
    if 'gif' in todo:
        with Extra('progress.gif') if config.train else contextlib.nullcontext():
            samples.make_progress_gif(config.sample_dir)
    evaluation.run(dcgan, config, step, todo)
    inversion.run(dcgan, config, todo)
    if 'samples' in todo:
        samples.save_samples(sess, dcgan, config, config.sample_dir)
    if 'share' in todo:
        sharing.share(dcgan, config, step)
    if 'page' in todo:
        server.serve(dcgan, config, TABLE)


def run(argv=None, model=DCGAN):
    """main() with these arguments, or the command line's. Ends in SystemExit.

    model  a subclass of DCGAN to build in its place

    An error that the user can act on is printed in one line; with --debug, its
    traceback comes first.
    """
    arguments = sys.argv if argv is None else argv
    asked = {argument.lstrip('-') for argument in arguments[1:] if argument[:1] == '-'}
    gc.collect()  # the graphs of earlier runs
    TABLE.define()
    handlers = {n: signal.signal(n, interrupt) for n in stop_signals()}
    threading.excepthook = quiet_import.report_thread_error
    escape_output()
    ignore_pillow_warnings()
    try:
        if asked & {'h', 'help', 'helpshort', 'helpfull'}:
            command_line.print_help(__doc__, TABLE, 'helpfull' in asked)
            sys.exit()
        todays = command_line.todays_arguments(arguments)
        tf.app.run(lambda argv: main(argv, model), todays)
    except FORESEEN as error:
        if FLAGS.is_parsed() and FLAGS.debug:
            traceback.print_exc()
        sys.exit(f'main.py: {with_origins(error_line(error), TABLE)}')
    except Interrupted as interrupted:
        print(f'main.py: {interrupted}', file=sys.stderr)
        sys.exit(128 + interrupted.number)
    finally:  # a notebook goes on
        for number, handler in {**handlers, **HANDLERS}.items():
            signal.signal(number, handler)


if __name__ == '__main__':
    run()
