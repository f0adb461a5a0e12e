"""``python -m lmri.cli``."""

import sys

from lmri.cli import main

sys.exit(main())
