"""What builds and runs containers takes minutes and a container engine: `make test-images` asks for it, nothing else."""

from __future__ import annotations

import os

if "IMAGES" not in os.environ:
    collect_ignore = ["test_bundle.py", "test_contents.py", "test_life.py"]
