"""From pictures back to z: find it, complete pictures, score anomalies."""

from dcgan.inversion.invert import Found, How, invert  # noqa: F401
