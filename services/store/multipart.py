"""Uploads in parts: a cut costs the part under way, and whoever comes later goes on with the parts that lie there.

Nothing is remembered here: the store is asked which upload of the object is open and which parts it has. A part found
there counts only when its entity tag is the MD5 of the same stretch of our file; an upload is completed with exactly
the tags of our parts, so that two writers of one key never mix. The last step is conditional: of several writers one
wins, where the store knows conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from minio.datatypes import ListMultipartUploadsResult, ListPartsResult, Part
from minio.error import S3Error
from tenacity import Retrying
from urllib3 import BaseHTTPResponse

from services.store.s3http import Body, S3Client

IF_ABSENT = {"If-None-Match": "*"}
_ROUNDS = 3
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Multipart:
    """One file on its way to one key.

    Args:
        client: the way to the store.
        key: the object.
        file: the open file's descriptor.
        size: its bytes.
        part_size: bytes per part.
        parallel: parts under way at once.
        exists: whether the object is there.
        retrying: how often and how long a request is repeated.
    """

    client: S3Client
    key: str
    file: int
    size: int
    part_size: int
    parallel: int
    exists: Callable[[], bool]
    retrying: Callable[[], Retrying]

    def put(self) -> bool:
        """Upload what is missing and complete; returns whether the object was stored now.

        Raises:
            S3Error, ServerError, HTTPError: the store did not take it; the parts that it took stay there.
        """
        for last in (False,) * (_ROUNDS - 1) + (True,):
            upload = next(iter(self._open()), None) or self._create()
            try:
                self._complete(upload, self._parts(upload))
            except S3Error as error:
                if error.code not in {"PreconditionFailed", "NoSuchUpload", "InvalidPart", "InvalidPartOrder"}:
                    raise
                # somebody else completed or gave up this upload, or wrote other bytes into it
                abort(self.client, self.key, upload)
                if self.exists():
                    return False
                if last:
                    raise
            else:
                # a beginning whose answer was lost, or another writer's: the object is there, they lead nowhere
                for other in self._open():
                    abort(self.client, self.key, other)
                return True
        raise AssertionError("the last round returns or raises")

    def _open(self) -> list[str]:
        """The key's open uploads; the oldest comes first, and every writer takes that."""
        found = self.retrying()(open_uploads, self.client, self.key)
        return [upload for key, upload in found if key == self.key]

    def _create(self) -> str:
        answer = self._send("POST", {"uploads": ""}, headers={"Content-Type": "application/octet-stream"})
        upload = fromstring(answer.data).findtext("{*}UploadId")  # noqa: S314 - expat bounds entities; the answer is bounded
        if not upload:
            raise ValueError("no upload was begun")
        return upload

    def _parts(self, upload: str) -> list[str]:
        """Upload every part that is not there yet; returns the entity tags of all."""
        there = self._there(upload)
        count = -(-self.size // self.part_size)
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="upload") as pool:
            return list(pool.map(lambda number: self._part(upload, number, there.get(number)), range(1, count + 1)))

    def _there(self, upload: str) -> dict[int, Part]:
        found: dict[int, Part] = {}
        while True:
            query = {"uploadId": upload, "part-number-marker": str(max(found, default=0))}
            result = ListPartsResult(self._send("GET", query))
            new = {part.part_number: part for part in result.parts if part.part_number not in found}
            found |= new
            if not result.is_truncated or not new:
                return found

    def _part(self, upload: str, number: int, there: Part | None) -> str:
        start = (number - 1) * self.part_size
        body = Body(self.file, start, min(self.part_size, self.size - start))
        if there is not None and there.size == body.length and there.etag == body.md5().hex():
            return there.etag
        answer = self._send("PUT", {"uploadId": upload, "partNumber": str(number)}, body)
        return answer.headers.get("ETag", "").strip('"')

    def _complete(self, upload: str, etags: list[str]) -> None:
        document = Element("CompleteMultipartUpload", xmlns=_XMLNS)
        for number, etag in enumerate(etags, 1):
            part = SubElement(document, "Part")
            SubElement(part, "PartNumber").text = str(number)
            SubElement(part, "ETag").text = f'"{etag}"'
        content = tostring(document)
        body, headers = Body(content, 0, len(content)), {"Content-Type": "application/xml", **IF_ABSENT}
        answer = self._send("POST", {"uploadId": upload}, body, headers)
        # a store that needs long for it begins to answer "200" and may still say no
        if b"<Error" in answer.data[:1024]:
            raise S3Error.fromxml(answer)

    def _send(
        self, method: str, query: dict[str, str], body: Body | None = None, headers: dict[str, str] | None = None
    ) -> BaseHTTPResponse:
        return self.retrying()(self.client.send, method, self.key, query, body, headers)


def open_uploads(client: S3Client, prefix: str) -> list[tuple[str, str]]:
    """Keys and identifiers of the uploads that are open under a prefix, oldest first."""
    try:
        found = ListMultipartUploadsResult(client.send("GET", None, {"uploads": "", "prefix": prefix})).uploads
    except S3Error as error:
        if error.code == "NoSuchUpload":  # some stores say so when there is none
            return []
        raise
    ordered = sorted(found, key=lambda one: (str(one.initiated_time), one.upload_id or ""))
    return [(one.object_name, one.upload_id) for one in ordered if one.upload_id]


def abort(client: S3Client, key: str, upload: str) -> None:
    """Give an upload up, and what was uploaded of it; fine when it is gone already."""
    try:
        client.send("DELETE", key, {"uploadId": upload})
    except S3Error as error:
        if error.code != "NoSuchUpload":
            raise
