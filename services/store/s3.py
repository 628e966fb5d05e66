"""Any S3 store as object store: MinIO, SeaweedFS, Ceph, Garage or a cloud's, through the minio SDK.

An object is put only where none is: the condition travels with the request, and the store decides. Files stream in
bounded memory both ways, whatever their size. A transfer that is cut goes on where it was: an upload with the parts
that the store already has, even in another process; a download within the same object, by range and entity tag.
"""

from __future__ import annotations

import io
import os
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog
from minio.datatypes import Object
from minio.error import S3Error
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential
from urllib3.exceptions import HTTPError, ProtocolError

from services.errors import StoreError
from services.files import TEMPORARY
from services.store import ObjectAbsent, ObjectTooLarge, check_key
from services.store.connections import MIB, S3Config
from services.store.diagnosis import FAILURES, AccessDenied, Place, explain, is_passing
from services.store.multipart import IF_ABSENT, Multipart, abort, open_uploads
from services.store.s3http import Body, S3Client

__all__ = ["S3Config", "S3Store"]

_ATTEMPTS = 3  # of a request that moves little; whoever called comes again anyway
_BLOCK = 256 << 10
_MAX_KEYS = 1_000_000
_Result = TypeVar("_Result")
_log = structlog.get_logger()


class S3Store:
    """An `ObjectStore` in a bucket; safe for several threads, and a process that forks opens another.

    Args:
        config: the store and this party's credentials.

    Raises:
        ConfigError: the credentials, the address or a file for TLS cannot be used.
    """

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._bucket = config.bucket
        self._client = S3Client(config)
        self._sdk = self._client.sdk
        self._place = Place(config.endpoint, config.bucket, self._client.access_key)

    def put(self, key: str, source: Path | bytes) -> bool:
        """See `ObjectStore.put`.

        One whose first answer was lost may say False of its own bytes; of several that put the same large file at
        once, each that completed their common upload says True.
        """
        check_key(key)
        with self._explained(f"could not store {key}"):
            if isinstance(source, bytes):
                return self._put_whole(key, Body(source, 0, len(source)))
            with source.open("rb") as file:
                descriptor, size = file.fileno(), os.fstat(file.fileno()).st_size
                part_size = self._config.part_mib * MIB
                if size <= part_size:
                    return self._put_whole(key, Body(descriptor, 0, size))
                if self._size(key) is not None:
                    return False
                return Multipart(
                    client=self._client,
                    key=key,
                    file=descriptor,
                    size=size,
                    part_size=part_size,
                    parallel=self._config.parallel,
                    exists=lambda: self._size(key) is not None,
                    retrying=self._patiently,
                ).put()

    def replace(self, key: str, content: bytes) -> None:
        """See `ObjectStore.replace`."""
        check_key(key)
        with self._explained(f"could not store {key}"):
            body = Body(content, 0, len(content))
            self._briefly(lambda: self._client.send("PUT", key, body=body, headers=_checked(body)))

    def get(self, key: str, target: Path, limit: int) -> None:
        """See `ObjectStore.get`."""
        check_key(key)
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        with self._explained(f"could not fetch {key}"):
            try:
                with temporary.open("xb") as out:
                    os.fchmod(out.fileno(), 0o600)
                    self._fetch(key, out, limit)
                temporary.rename(target)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, key: str, limit: int) -> bytes:
        """See `ObjectStore.read`."""
        check_key(key)
        content = io.BytesIO()
        with self._explained(f"could not fetch {key}"):
            self._fetch(key, content, limit)
        return content.getvalue()

    def stat(self, key: str) -> int | None:
        """See `ObjectStore.stat`."""
        check_key(key)
        with self._explained(f"could not look for {key}"):
            return self._size(key)

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        with self._explained(f"could not list {prefix}"):
            found = self._briefly(lambda: [one.object_name or "" for one in self._objects(prefix)])
        # a store may sort by folders rather than by keys, and show a folder as an object
        yield from sorted(key for key in found if not key.endswith("/"))

    def delete(self, prefix: str) -> int:
        """See `ObjectStore.delete`; takes every version of them, and what was uploaded of unfinished ones."""
        gone = set()
        with self._explained(f"could not delete {prefix}"):
            for one in self._briefly(lambda: list(self._objects(prefix, versions=True))):
                name = one.object_name or ""
                self._briefly(partial(self._sdk.remove_object, self._bucket, name, one.version_id))
                if one.is_latest in {None, "true"} and not one.is_delete_marker and not name.endswith("/"):
                    gone.add(name)
            for key, upload in self._briefly(lambda: open_uploads(self._client, prefix)):
                abort(self._client, key, upload)
        return len(gone)

    def versioned(self, key: str) -> bool | None:
        """Whether the store keeps what was overwritten or deleted; None when it does not tell.

        Args:
            key: an object that this party may read, which shows it where the bucket's settings may not be read.
        """
        with self._explained("could not ask for versions"):
            try:
                return bool(self._briefly(lambda: self._sdk.get_bucket_versioning(self._bucket)).status == "Enabled")
            except S3Error as error:
                if not isinstance(explain(error, "", self._place), AccessDenied):
                    raise
            found = self._briefly(lambda: self._sdk.stat_object(self._bucket, key)).version_id
            return True if found not in {None, "", "null"} else None

    def time(self) -> datetime | None:
        """See `ObjectStore.time`."""
        with self._explained("could not ask for the time"):
            said = self._briefly(self._client.date)
        try:
            return parsedate_to_datetime(said or "").astimezone(UTC)
        except (ValueError, OverflowError):  # a store may say anything
            return None

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _put_whole(self, key: str, body: Body) -> bool:
        headers = {**IF_ABSENT, **_checked(body)}
        try:
            self._briefly(lambda: self._client.send("PUT", key, body=body, headers=headers))
        except S3Error as error:
            if error.code != "PreconditionFailed":
                raise
            return False
        return True

    def _size(self, key: str) -> int | None:
        try:
            return self._briefly(lambda: self._sdk.stat_object(self._bucket, key)).size
        except S3Error as error:
            if error.code not in {"NoSuchKey", "NoSuchVersion"}:
                raise
            return None

    def _objects(self, prefix: str, *, versions: bool = False) -> Iterator[Object]:
        found = self._sdk.list_objects(self._bucket, prefix, recursive=True, include_version=versions)
        yield from islice(found, _MAX_KEYS)
        if next(found, None) is not None:
            raise StoreError(f"the store lists more than {_MAX_KEYS} objects", fix="have old runs purged")

    def _fetch(self, key: str, out: BinaryIO, limit: int) -> None:
        """Stream an object; a cut that came further is no failure, one that came no further is tried again a while."""
        etag: str | None = None
        size: int | None = None

        def go_on() -> None:
            nonlocal etag, size
            done = out.tell()
            answer = self._sdk.get_object(
                self._bucket, key, offset=done, request_headers={"If-Match": f'"{etag}"'} if etag else None
            )
            try:
                if answer.status == 200:  # the whole of it: the first time, or from a store that knows no ranges
                    done = out.seek(0)
                    out.truncate()
                length = int(answer.headers.get("Content-Length", "-1"))
                if length < 0 or size not in {None, done + length}:
                    raise StoreError(f"could not fetch {key}: the store does not say its size, or says two")
                etag, size = answer.headers.get("ETag", "").strip('"') or None, done + length
                if size > limit:
                    raise ObjectTooLarge(f"{key} is larger than {limit} bytes")
                left = length
                while left:
                    # what has come so far, rather than a full block: a cut then loses nothing of it
                    block = answer.read1(min(_BLOCK, left), decode_content=False)
                    if not block:
                        raise ProtocolError("the body ended early")
                    out.write(block)
                    left -= len(block)
            except HTTPError as error:
                if out.tell() == done or not is_passing(error):
                    raise
                _log.info("download cut, going on", object=key, bytes=out.tell(), of=size)
            finally:
                answer.close()

        self._briefly(go_on)
        while size is None or out.tell() < size:
            self._patiently()(go_on)

    def _briefly(self, function: Callable[[], _Result]) -> _Result:
        """Repeat a small request a few times."""
        retrying = Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(0.1, max=1.0),
            reraise=True,
        )
        return retrying(function)

    def _patiently(self) -> Retrying:
        """How the requests of a transfer are repeated."""
        return Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_delay(self._config.patience),
            wait=wait_random_exponential(0.1, max=3.0),
            reraise=True,
        )

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ObjectAbsent, ObjectTooLarge, StoreError):
            raise
        except FAILURES as error:
            raise explain(error, doing, self._place) from error


def _checked(body: Body) -> dict[str, str]:
    """Has the store compare what came with what was sent: one was seen to keep a broken request as an empty object."""
    return {"Content-MD5": b64encode(body.md5()).decode()}
