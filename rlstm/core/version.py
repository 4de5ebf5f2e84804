"""The version of the package, where everything may read it; pyproject.toml does too."""

__version__ = "0.1.0"
