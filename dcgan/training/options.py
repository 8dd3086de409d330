"""Training options that the original lacks. Their defaults train exactly as it does."""

import collections
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.errors import UserError
from dcgan.util.flags import Flag, Group

SCHEDULES = ('constant', 'step', 'linear')
# fmt: off
FLAGS = Group(
    'Training',
    'how networks are updated, docs/recipes.md: --ema, --r1, ...',
    Flag('learning_rate_d', None, 'Learning rate of D; default: --learning_rate',
         'training result', type=float, least=0),
    Flag('learning_rate_g', None, 'Learning rate of G; default: --learning_rate',
         'training result', type=float, least=0),
    Flag('lr_schedule', 'constant', 'Schedule of the learning rates; step multiplies '
         'them by --lr_decay_rate at each of --lr_decay_epochs, linear lowers them to '
         'zero from that epoch to the last', 'training result', choices=SCHEDULES),
    Flag('lr_decay_epochs', '', 'Epochs of --lr_schedule, such as 10,20,25; linear: '
         'one', 'training result'),
    Flag('lr_decay_rate', 0.1, 'Factor of --lr_schedule step', 'training result',
         least=0),
    Flag('d_steps', 1, 'Updates of D in an iteration', 'training result', least=1),
    Flag('g_steps', 2, 'Updates of G in an iteration', 'training result', least=1),
    Flag('pretrain_d', 0, 'Iterations that train D alone, before the first one',
         'training result', least=0),
    Flag('d_dropout', 0.0, 'Share of the units of D that an update leaves out, after '
         'each hidden layer', 'training result', least=0, most=0.99),
    Flag('label_smoothing', 1.0, 'Label of real images in updates of D, such as 0.9; '
         'generated ones have 0', 'training result', least=0.5, most=1),
    Flag('augment', '', 'Changes of real and generated images before D, for a small '
         'data set: some of color,translation,cutout', 'training result'),
    Flag('r1', 0.0, "Weight of a penalty on D's gradient at real images, such as 10; "
         'keeps G varied', 'training result', least=0),
    Flag('ema', 0.0, "Rate of moving averages of G's weights, such as 0.999, from "
         'which samples are drawn; 0: none, and the raw weights of a model that has '
         'averages', 'model result', least=0, most=0.999999),
    Flag('flip', False, 'Mirror half of the images, others in each epoch',
         'training result'),
    Flag('sample_epochs', None, 'Epochs between two further image grids, at their ends',
         'training', type=int, least=1),
    Flag('ckpt_epochs', None, 'Epochs between two further checkpoints, at their ends',
         'training', type=int, least=1),
    Flag('resume_step', None, 'Iteration of the checkpoint to use, or best, which '
         '--evaluate_freq keeps; default: the newest', type=str),
    Flag('profile', '', 'Iterations of which to write a trace to logs/, such as '
         '100,110'),
)
# fmt: on
DEFAULTS = {flag.name: flag.default for flag in FLAGS.flags}


class Options(collections.namedtuple('Options', DEFAULTS, defaults=DEFAULTS.values())):
    """The values of these flags."""

    @classmethod
    def of(cls, config: Any) -> 'Options':
        """The options in `config`; missing ones get their defaults."""
        return cls(*(getattr(config, *option) for option in DEFAULTS.items()))

    def check_schedule(self, epochs: int) -> None:
        """Raise UserError for a schedule that does not fit the number of epochs."""
        schedule, decay, advice = self.lr_schedule, self._decay_epochs(), ''
        if schedule == 'constant' and decay:
            advice = 'a constant rate does not decay; give --lr_schedule step or linear'
        elif schedule == 'step' and not decay:
            advice = 'give the epochs, as in --lr_decay_epochs 10,20'
        elif schedule == 'linear' and len(decay) != 1:
            advice = 'give the epoch from which the rates fall, as in 100'
        elif decay != sorted(set(decay)) or (decay and decay[-1] >= epochs):
            advice = f'give rising numbers below --epoch, {epochs}'
        if advice:
            given = f"{schedule}, --lr_decay_epochs '{self.lr_decay_epochs}'"
            raise UserError(f'--lr_schedule {given}: {advice}')

    def _decay_epochs(self):
        text = str(self.lr_decay_epochs)
        try:
            return [int(part) for part in text.split(',') if part]
        except ValueError:
            problem = f'--lr_decay_epochs {text}: give numbers, as in 10,20'
            raise UserError(problem) from None

    def rates(self, learning_rate: float, epoch: int = 0, epochs: int = 1) -> list:
        """The learning rates of D and of G in an epoch, counted from 0.

        step    times lr_decay_rate from each of lr_decay_epochs on
        linear  falls from epoch E, one of lr_decay_epochs, by equal parts after each
                epoch, and would be zero after the last one (the paper's authors' code)
        """
        factor, decay = 1.0, self._decay_epochs()
        if self.lr_schedule == 'step':
            factor = self.lr_decay_rate ** sum(epoch >= e for e in decay)
        elif self.lr_schedule == 'linear' and epoch > decay[0]:
            factor = 1 - (epoch - decay[0]) / (epochs - decay[0])
        rates = self.learning_rate_d, self.learning_rate_g
        return [(learning_rate if r is None else r) * factor for r in rates]

    def optimizers(self, config) -> tuple:
        """(learning rates of D and G, a placeholder [2], and their Adam optimizers).

        Reads learning_rate and beta1 of config.
        """
        rates = np.float32(self.rates(config.learning_rate))
        rates = tf.placeholder_with_default(rates, [2], 'learning_rates')
        adam = tf.train.AdamOptimizer
        return rates, *(adam(rate, beta1=config.beta1) for rate in tf.unstack(rates))
