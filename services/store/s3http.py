"""The way to an S3 store: signed requests over one pool of connections.

The SDK serves every small request over this pool. What the SDK cannot do is done here with its signature: conditional
requests, and bodies that are sent block by block, so that a slow line is not taken for a dead one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from minio import Minio
from minio.credentials.credentials import Credentials
from minio.error import S3Error, ServerError
from minio.helpers import BaseURL
from minio.signer import sign_v4_s3
from urllib3 import BaseHTTPResponse

from services.errors import ConfigError, StoreError
from services.store.connections import DONE, S3Config, open_pool
from services.store.credentials import read_credentials
from services.store.diagnosis import TOO_LARGE

_BLOCK = 32 << 10  # what a socket must take within its timeout
# the connection is TLS, and the content is sealed: hashing every body once more would only cost time
_UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Body:
    """A stretch of an open file, or bytes, as the body of a request."""

    source: int | bytes
    offset: int
    length: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes, a block at a time.

        Raises:
            StoreError: the file is shorter than it was.
        """
        for start in range(self.offset, self.offset + self.length, _BLOCK):
            size = min(_BLOCK, self.offset + self.length - start)
            block = (
                self.source[start : start + size]
                if isinstance(self.source, bytes)
                else os.pread(self.source, size, start)
            )
            if len(block) != size:
                raise StoreError("the file changed while it was uploaded", fix="it is computed or sealed again")
            yield block

    def md5(self) -> bytes:
        """What the S3 protocol knows it by: a checksum, not a protection."""
        found = hashlib.md5(usedforsecurity=False)
        for block in self.blocks():
            found.update(block)
        return found.digest()


class S3Client:
    """Signed requests to one bucket.

    Args:
        config: the store and this party's credentials.

    Raises:
        ConfigError: the credentials, the address or a file for TLS cannot be used.

    Attributes:
        access_key: as whom the party comes.
        bucket: the bucket.
        sdk: the SDK, over the same connections.
    """

    def __init__(self, config: S3Config) -> None:
        credentials = read_credentials(config.credentials)
        self._pool = open_pool(config)
        try:
            self._url = BaseURL(config.endpoint, config.region)
        except ValueError as error:
            raise ConfigError(
                f"the store's address cannot be used: {error}", fix="check `endpoint` and `region`"
            ) from error
        self._endpoint = config.endpoint
        self._region = config.region
        self._credentials = Credentials(credentials.access_key, credentials.secret_key)
        self.access_key = credentials.access_key
        self.bucket = config.bucket
        self.sdk = Minio(
            urlsplit(config.endpoint).netloc,
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            secure=config.endpoint.startswith("https://"),
            region=config.region,
            http_client=self._pool,
        )

    def send(
        self,
        method: str,
        key: str | None,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> BaseHTTPResponse:
        """Send a request whose answer is short.

        Raises:
            S3Error, ServerError: the store says no.
            HTTPError: the connection failed.
        """
        url = self._url.build(
            method=method, region=self._region, bucket_name=self.bucket, object_name=key, query_params=dict(query or {})
        )
        now = datetime.now(UTC)
        signed = sign_v4_s3(
            method=method,
            url=url,
            region=self._region,
            headers={
                "Host": url.netloc,
                "Content-Length": str(body.length if body else 0),
                "x-amz-content-sha256": _UNSIGNED,
                "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
                **(headers or {}),
            },
            credentials=self._credentials,
            content_sha256=_UNSIGNED,
            date=now,
        )
        answer = self._pool.urlopen(
            method,
            urlunsplit(url),
            headers={name: str(value) for name, value in signed.items()},
            body=body.blocks() if body and body.length else None,
        )
        if answer.status not in DONE:
            if answer.status == TOO_LARGE:  # a proxy's word, in whatever form; S3's own is EntityTooLarge, with 400
                raise ServerError(f"HTTP status 413 from {answer.headers.get('Server', 'a proxy')}", answer.status)
            if answer.data:
                raise S3Error.fromxml(answer)
            raise ServerError(f"HTTP status {answer.status}", answer.status)
        return answer

    def date(self) -> str | None:
        """What the store says the time is, as HTTP spells it.

        Raises:
            HTTPError: the connection failed.
        """
        return self._pool.urlopen("HEAD", self._endpoint).headers.get("Date")

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()
