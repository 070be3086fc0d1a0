"""``python -m ddgm_dist``: the command line."""

import sys

from ddgm_dist.cli import main

if __name__ == "__main__":
    sys.exit(main())
