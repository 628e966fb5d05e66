"""A federation of real processes over a real broker and store, watched by a real Prometheus while it works."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

import protocols
from deploy.servers.ports import free_ports
from deploy.servers.prometheus import PrometheusServer
from deploy.servers.provisioned import Servers
from tests import tables
from tests.programs.federation import HUB, Federation, until

SILOS = ("north", "west")
EXAMPLE = Path(__file__).parents[2] / "deploy" / "monitoring" / "prometheus.yaml"
_BUDGET = {"epsilon_per_run": 3.0, "epsilon_for_life": 10.0, "delta": 1e-5}


class Watched(Federation):
    """The federation, its servers and its Prometheus; it knows both protocols.

    Attributes:
        monitoring: where each party serves its metrics, and the broker (`broker`).
        began: when Prometheus began to look, in seconds since the epoch.
    """

    def __init__(self, folder: Path, held: ExitStack) -> None:
        parties = (HUB, *SILOS)
        self.monitoring = dict(zip((*parties, "broker"), free_ports(len(parties) + 1), strict=True))
        self.servers = Servers(folder / "servers", self.monitoring["broker"])
        found = tables.write_shared(folder, rows=120)
        super().__init__(folder, silos=SILOS, tables=found, bus=self.servers.bus, store=self.servers.store)
        self.prometheus = PrometheusServer(folder / "prometheus", self._config())
        self.began = time.time()
        held.callback(self.close)
        self._begin()

    def allow(self, silo: str, **_: Any) -> None:
        """See `Federation.allow`."""
        both = ("silofuse", "sgde")
        unprotected = {kind: words for name in both for kind, words in protocols.sentences(name).items()}
        super().allow(silo, protocols=list(both), unprotected=unprotected, datasets={"records": _BUDGET})

    def close(self) -> None:
        """End everything."""
        super().close()
        self.prometheus.close()
        self.servers.close()

    def finish(self, spec: dict[str, Any]) -> None:
        """Have the silos do a run; what they do for themselves at its end goes on."""
        run = self.submit({**spec, "silos": {silo: spec["silos"][silo] for silo in SILOS}})
        until("the run is done", lambda: self.phase(HUB, run) == "done", 600)

    def address(self, name: str) -> str:
        """Where a party says how it is."""
        return f"http://127.0.0.1:{self.monitoring[name]}"

    def processor(self, name: str) -> float:
        """The seconds of processor time that a party has used."""
        fields = Path(f"/proc/{self.processes[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _begin(self) -> None:
        self.found()
        self.command(HUB, "provision", self.folder / "provisioned", "--server", "localhost")
        self.prometheus.start()
        self.began = time.time()
        self.servers.start(self.folder / "provisioned")
        for name in (HUB, *SILOS):
            with self.config(name).open("a") as config:
                config.write(f"monitoring: {{port: {self.monitoring[name]}}}\n")
            self.start(name)

    def _config(self) -> dict[str, Any]:
        """The example, with this federation's targets and a shorter breath."""
        config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(EXAMPLE.parent / name) for name in config["rule_files"]]
        del config["alerting"]
        targets = {"silokit": [HUB, *SILOS], "rabbitmq": ["broker"]}
        for one in config["scrape_configs"]:
            ports = [self.monitoring[name] for name in targets[one["job_name"]]]
            one["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        return config
