"""``python -m bench``."""

import sys

# Processes are spawned, and a spawned process imports its parent's main module: let it be small.
if __name__ == "__main__":
    from .run import main

    sys.exit(main())
