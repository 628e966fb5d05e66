"""What SGDE's halves say to each other; the generator itself goes to the federation's pool."""

from __future__ import annotations

# silo -> every member: the silo's differentially private generator, for good
GENERATOR = "pool.generator"
# silo -> coordinator: its generator is in the pool
PUSHED = "sgde.pushed"
# coordinator -> silos: every generator of the run is in the pool
COMPLETE = "sgde.complete"
