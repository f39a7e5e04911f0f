"""The desk of the command line's tests."""

from tests.cli.conftest import desk, site

__all__ = ["desk", "site"]
