"""`python -m tetrasim` is the `tetrasim` command."""

import os
import sys

# `-m` puts the working folder first on the import path; nothing may be imported from there. The package's own
# modules are found through the package, also where it was found in the working folder.
sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != os.getcwd()]

from tetrasim.cli import main  # noqa: E402 - the import path comes first

if __name__ == "__main__":
    sys.exit(main())
