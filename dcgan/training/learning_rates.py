"""Learning rates of D and of G in each epoch: constant, in steps, or linear."""

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.errors import UserError

SCHEDULES = ('constant', 'step', 'linear')


def check_schedule(options, epochs: int) -> None:
    """Raise UserError for a schedule that does not fit the number of epochs."""
    schedule, decay = options.lr_schedule, decay_epochs(options)
    problem = ''
    if schedule == 'constant' and decay:
        problem = 'a constant rate does not decay; give --lr_schedule step or linear'
    elif schedule == 'step' and not decay:
        problem = 'give the epochs, as in --lr_decay_epochs 10,20'
    elif schedule == 'linear' and len(decay) != 1:
        problem = 'give the epoch from which the rates fall, as in 100'
    elif decay != sorted(set(decay)) or (decay and decay[-1] >= epochs):
        problem = f'give rising numbers below --epoch, {epochs}'
    if problem:
        given = f"{schedule}, --lr_decay_epochs '{options.lr_decay_epochs}'"
        raise UserError(f'--lr_schedule {given}: {problem}')


def decay_epochs(options) -> list[int]:
    """The numbers in lr_decay_epochs. Raises UserError for what is no number."""
    text = str(options.lr_decay_epochs)
    try:
        return [int(part) for part in text.split(',') if part]
    except ValueError:
        problem = f'--lr_decay_epochs {text}: give numbers, as in 10,20'
        raise UserError(problem) from None


def learning_rates(options, learning_rate: float, epoch=0, epochs=1) -> list[float]:
    """The learning rates of D and of G in an epoch, counted from 0.

    step    times lr_decay_rate from each of lr_decay_epochs on
    linear  falls from epoch E, one of lr_decay_epochs, by equal parts after each epoch,
            and would be zero after the last one (the code of the paper's authors)
    """
    factor, decay = 1.0, decay_epochs(options)
    if options.lr_schedule == 'step':
        factor = options.lr_decay_rate ** sum(epoch >= e for e in decay)
    elif options.lr_schedule == 'linear' and epoch > decay[0]:
        factor = 1 - (epoch - decay[0]) / (epochs - decay[0])
    rates = options.learning_rate_d, options.learning_rate_g
    return [(learning_rate if r is None else r) * factor for r in rates]


def adam_optimizers(options, config) -> tuple:
    """(learning rates of D and G, a placeholder [2], and their Adam optimizers).

    Reads learning_rate and beta1 of config.
    """
    rates = np.float32(learning_rates(options, config.learning_rate))
    rates = tf.placeholder_with_default(rates, [2], 'learning_rates')
    d_rate, g_rate = tf.unstack(rates)
    adam = tf.train.AdamOptimizer
    return rates, adam(d_rate, beta1=config.beta1), adam(g_rate, beta1=config.beta1)
