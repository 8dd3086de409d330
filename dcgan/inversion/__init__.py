"""From pictures back to z: find it, complete pictures, score anomalies."""

from dcgan.inversion.invert import Found, How, Inverter, invert  # noqa: F401
