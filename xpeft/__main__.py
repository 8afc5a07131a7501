"""`python -m xpeft`: the command line without the console script."""

import sys

from xpeft.cli import main

sys.exit(main())
