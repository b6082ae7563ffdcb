"""C{python -m virnet.cli} is the C{virnet} command, for where that is not installed."""

import sys

from virnet.cli.main import main

sys.exit(main())
