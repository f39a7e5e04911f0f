"""``python -m holdfast``: the same command line as ``holdfast``."""

from holdfast.cli import main

if __name__ == "__main__":
    main()
