"""``python -m torchscape`` is ``torchscape``."""

from torchscape.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
