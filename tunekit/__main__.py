"""`python -m tunekit` is `tunekit`."""

import sys

from tunekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
