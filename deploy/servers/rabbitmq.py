"""A real RabbitMQ node in a folder of its own: mutual TLS only, private ports, nothing left behind when it stops.

It has its own port mapper, and never runs as root.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.servers import ServerError, ServerMissing
from deploy.servers.ports import free_ports
from deploy.servers.process import Server
from services.files import write_atomic

PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # Debian's; /usr/sbin holds wrappers that change user, folder and logs
# After a power cut a lone node of this version now and then leaves a quorum queue without a leader, for good
# (rabbitmq-server issue 10070); a cluster's other nodes would call the election.
_ELECT = (
    "[ra:trigger_election(P) || Q <- rabbit_amqqueue:list(), P <- [amqqueue:get_pid(Q)], is_tuple(P),"
    " ra_leaderboard:lookup_leader(element(1, P)) =:= undefined]."
)
NODE = "silokit@localhost"
ACCOUNTS = ("rabbitmq", "nobody")  # who runs the node when root starts it

_CONFIG = """\
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.crt
ssl_options.certfile = {folder}/server.crt
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
auth_mechanisms.1 = EXTERNAL
ssl_cert_login_from = common_name
max_message_size = 65536
load_definitions = {folder}/definitions.json
log.console = true
log.file = false
"""
_WATCHED = """\
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {metrics}
"""


class RabbitServer(Server):
    """A RabbitMQ node.

    Args:
        folder: the node's own; when root starts it, every folder above must let the node's account through.
        certificates: what clients must be signed by (`ca.crt`), the server's certificate (`server.crt`) and its key
            (`server.key`), as PEM.
        definitions: what it loads at every start.
        port: where it listens; a free one if none is given.
        metrics: where it serves Prometheus, on this machine alone; nowhere if none is given.
    """

    title = "RabbitMQ"
    boot_seconds = 60.0
    stop_seconds = 30.0

    def __init__(
        self,
        folder: Path,
        certificates: Mapping[str, bytes],
        definitions: Mapping[str, Any],
        port: int | None = None,
        metrics: int | None = None,
    ) -> None:
        super().__init__(folder)
        free, self._distribution, self._mapper = free_ports(3)
        self.port = port or free
        self._metrics = metrics
        self._certificates = certificates
        self._definitions = definitions
        self._epmd: subprocess.Popen[bytes] | None = None
        self._account = _account()

    def start(self) -> None:
        """See `Server.start`; every queue has its leader."""
        again = (self.folder / "mnesia").exists()
        super().start()
        if again:
            self.ctl("eval", _ELECT)

    def close(self) -> None:
        """End the node at once, and its port mapper with it."""
        super().close()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def provision(self, definitions: Mapping[str, Any]) -> None:
        """Import definitions into the running node, as an operator does; they also hold for later starts.

        Raises:
            ServerError: the node refuses them.
        """
        self._definitions = definitions
        self._write()
        self.ctl("import_definitions", str(self.folder / "definitions.json"))

    def ctl(self, *words: str) -> str:
        """What `rabbitmqctl` answers.

        Raises:
            ServerError: it fails.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(PROGRAMS / "rabbitmqctl"), "--quiet", "--node", NODE, *words],
            **self._surroundings(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServerError(f"rabbitmqctl {words[0]} fails: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    @classmethod
    def require(cls) -> None:
        """See `Server.require`."""
        if not (PROGRAMS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
            raise ServerMissing(
                f"there is no RabbitMQ server in {PROGRAMS}", fix="`make servers` (Debian, as root) installs it"
            )

    def _prepare(self) -> Sequence[str]:
        self._write()
        if self._epmd is None:
            self._epmd = self._spawn(["epmd", "-address", "127.0.0.1", "-port", str(self._mapper)])
        return [str(PROGRAMS / "rabbitmq-server")]

    def _write(self) -> None:
        for path in (self.folder, self.folder / "home"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        watched, plugins = "", ["rabbitmq_auth_mechanism_ssl"]
        if self._metrics is not None:
            watched, plugins = _WATCHED, [*plugins, "rabbitmq_prometheus"]
        documents = {
            **self._certificates,
            "definitions.json": json.dumps(self._definitions, sort_keys=True).encode(),
            "rabbitmq.conf": (_CONFIG + watched)
            .format(port=self.port, folder=self.folder, metrics=self._metrics)
            .encode(),
            "advanced.config": b"[].\n",
            "enabled_plugins": f"[{', '.join(plugins)}].\n".encode(),
        }
        for name, content in documents.items():
            write_atomic(self.folder / name, content)
        if self._account is not None:
            for path in (self.folder, self.folder / "home", *(self.folder / name for name in documents)):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
            if subprocess.run(["test", "-w", str(self.folder)], **self._as_account(), check=False).returncode:
                raise ServerError(
                    f"the account {self._account.pw_name} cannot reach {self.folder}",
                    fix="root may not run RabbitMQ: use a folder that others may enter, or start as an ordinary user",
                )

    def _surroundings(self) -> dict[str, Any]:
        # a RABBITMQ_ variable of the caller's would lead to another node
        own = self.folder
        environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(own / "home"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_BASE": str(own),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(own / "none"),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # two schedulers that sleep when idle: a guest on this machine, not its owner
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }
        return {"env": environment, "cwd": own, **self._as_account()}

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _answers(self) -> bool:
        """Whether the port is open, which is the last thing that a starting node does."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _ended(self) -> None:
        while self._answers():  # a killed node holds its port for a moment: what answers next must be the next node
            time.sleep(0.01)


def _account() -> pwd.struct_passwd | None:
    """Who runs the node: the caller, unless that is root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in ACCOUNTS if name in known), None)
