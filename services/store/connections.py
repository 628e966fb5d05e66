"""Where an S3 store is, and the connections to it: own timeouts, bounded answers, no redirects, the system's proxy."""

from __future__ import annotations

import io
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import urllib3
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager, ProxyManager

from services.errors import ConfigError, StoreError

MIB = 1 << 20
DONE = frozenset({200, 204, 206})
_UNSENT = 128 << 10
_MAX_ANSWER = 16 * MIB  # a listing of 1,000 keys is far below


class S3Config(BaseModel):
    """Where the S3 store is and as whom this party comes to it; no secret ever stands here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str = Field(description="the store's address, for example https://s3.example.org:9000")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="the federation's bucket")
    region: str = Field(default="us-east-1", description="the region that the store says it lies in")
    credentials: Path = Field(description="a file with this party's access key and secret, which it alone can read")
    ca: Path | None = Field(default=None, description="the authority behind the store's certificate, if not public")
    certificate: Path | None = Field(default=None, description="a client certificate, where the store asks for one")
    key: Path | None = Field(default=None, description="its private key")
    insecure: bool = Field(default=False, description="allow http://; for a store on this very machine")
    connect_timeout: float = Field(default=10.0, gt=0, le=300, description="seconds until a connection stands")
    read_timeout: float = Field(default=60.0, gt=0, le=3600, description="seconds of silence after which one is dead")
    patience: float = Field(
        default=30.0, ge=0, le=3600, description="seconds for which a broken transfer is taken up again in vain"
    )
    part_mib: int = Field(default=8, ge=5, le=512, description="MiB per part of an upload; a cut costs one part")
    parallel: int = Field(default=2, ge=1, le=16, description="parts under way at once")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        url = urlsplit(endpoint)
        beside = url.path.strip("/") or url.query or url.username or url.port == 0
        if url.scheme not in {"https", "http"} or not url.hostname or beside:
            raise ValueError("an endpoint is https://HOST or https://HOST:PORT and nothing else")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.endpoint.startswith("http://") and not self.insecure:
            raise ValueError("the endpoint is not encrypted: use https://, or say `insecure: true`")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together")
        return self

    def located(self, base: Path) -> Self:
        """The same configuration with every path made absolute from `base`."""
        paths = {name: getattr(self, name) for name in ("credentials", "ca", "certificate", "key")}
        return self.model_copy(update={name: base / path for name, path in paths.items() if path})


class _Bounded:
    """A pool whose answers fit into memory, unless they are streamed; it follows no redirect."""

    def urlopen(self, method: str, url: str, **options: Any) -> BaseHTTPResponse:
        preload = options.pop("preload_content", True)
        answer: BaseHTTPResponse = super().urlopen(  # type: ignore[misc]  # PoolManager stands behind
            method, url, **{**options, "redirect": False, "preload_content": False}
        )
        if not preload and answer.status in DONE:
            return answer
        try:
            data = answer.read(_MAX_ANSWER + 1, decode_content=False)
        except BaseException:
            answer.close()
            raise
        if len(data) > _MAX_ANSWER:
            answer.close()
            raise StoreError("the store's answer is without end", fix="check `endpoint`; tell the store's operator")
        answer.release_conn()
        return HTTPResponse(
            io.BytesIO(data), answer.headers, answer.status, reason=answer.reason, preload_content=preload,
            decode_content=False, request_method=method, enforce_content_length=False,
        )  # fmt: skip


class _Direct(_Bounded, PoolManager):  # type: ignore[misc]  # as PoolManager itself narrows it
    """Straight to the store."""


class _Proxied(_Bounded, ProxyManager):  # type: ignore[misc]
    """Through the proxy that the environment names."""


def open_pool(config: S3Config) -> PoolManager:
    """Connections to the store, through the proxy that the environment names if there is one.

    Raises:
        ConfigError: a file for TLS cannot be used.
    """
    url = urlsplit(config.endpoint)
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=config.connect_timeout, read=config.read_timeout),
        "retries": False,  # the store decides what is worth another attempt
        "maxsize": config.parallel + 1,
        "socket_options": _socket_options(),
    }
    if url.scheme == "https":
        options["ssl_context"] = tls_context(config)
    proxy = proxy_of(config)
    if proxy is None:
        return _Direct(**options)
    return _Proxied(proxy.url, proxy_headers=proxy.headers, **options)


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names; its address may hold a password, so it is never shown."""

    url: str

    @property
    def address(self) -> tuple[str, int]:
        """Its name and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def headers(self) -> dict[str, str]:
        """With what a client shows itself to it."""
        parts = urlsplit(self.url)
        login = f"{parts.username}:{parts.password or ''}" if parts.username else None
        return dict(urllib3.make_headers(proxy_basic_auth=login))


def proxy_of(config: S3Config) -> Proxy | None:
    """The proxy on the way to the store; None where the environment names none, or excepts the store."""
    url = urlsplit(config.endpoint)
    named = urllib.request.getproxies().get(url.scheme)
    return Proxy(named) if named and not urllib.request.proxy_bypass(url.hostname or "") else None


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # little waits unsent in the kernel: after the last block of a body, what is left to send takes no longer
        # than the store may be silent, however slow the line
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT))
    return options


def tls_context(config: S3Config) -> ssl.SSLContext:
    """How TLS is spoken with the store.

    Raises:
        ConfigError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate and config.key:
            context.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"a file for TLS cannot be used: {error.strerror or error}", fix="check `ca`, `certificate` and `key`"
        ) from error
    return context
