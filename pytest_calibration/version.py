"""The version of this package, in a module that loads nothing."""

__version__ = "0.1.0"
