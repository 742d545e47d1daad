"""``python -m lithops_mp``: the command ``lithops-mp``."""

import sys

from .cli import main

sys.exit(main())
