"""
Sphinx's settings. The API reference is pydoctor's, see C{tool.pydoctor} in C{pyproject.toml}.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from virnet._version import __version__

project = "virnet"
copyright = "virnet contributors"
release = version = __version__
exclude_patterns = ["_build"]
nitpicky = True
html_theme = "furo"
html_title = f"virnet {release}"
