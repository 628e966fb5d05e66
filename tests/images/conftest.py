"""What runs containers takes minutes and an engine: only `make test-images` asks for it."""

from __future__ import annotations

import os

if "IMAGES" not in os.environ:
    collect_ignore = ["test_bundle.py", "test_contents.py", "test_life.py"]
