"""``python -m bench``."""

import sys

from .run import main

# Workers are spawned, and a spawned process imports its parent's main module.
if __name__ == "__main__":
    sys.exit(main())
