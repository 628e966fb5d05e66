"""What SiloFuse's halves say to each other, and what each word lays open."""

from __future__ import annotations

# silo -> other silos: the run's alignment secret
SECRET = "align.secret"  # noqa: S105 - a kind, not a secret
# silo -> coordinator: keyed pseudonyms of the silo's identifiers
PSEUDONYMS = "align.pseudonyms"
# coordinator -> silo: places of the common records, and which are held out
ORDER = "align.order"
# silo -> coordinator: codes of the common training rows
LATENTS = "silofuse.latents"
# silo -> coordinator, in the place of the codes where the run asks for noise: the same rows under a claim
NOISED = "silofuse.noised-latents"
# silo -> coordinator, in the form `layout` alone: the codewords among those codes
LAYOUT = "silofuse.layout"
# coordinator -> silo: its columns of the synthetic codes
SLICE = "silofuse.slice"

MAX_WIDTH = 65_536
