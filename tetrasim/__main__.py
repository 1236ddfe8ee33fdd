"""`python -m tetrasim` is the `tetrasim` command."""

import sys

from tetrasim.cli import main

if __name__ == "__main__":
    sys.exit(main())
