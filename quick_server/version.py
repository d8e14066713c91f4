"""The version, where every file can import it from."""

__version__ = "1.0.0.dev0"
