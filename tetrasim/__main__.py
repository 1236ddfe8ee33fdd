"""`python -m tetrasim` is the `tetrasim` command."""

from tetrasim.cli import main

if __name__ == "__main__":
    main()
