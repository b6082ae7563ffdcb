"""
The version, in a module that imports nothing: the build reads it without the package's dependencies.
"""

__version__ = "0.1.0"
