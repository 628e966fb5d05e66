"""What is the matter with an S3 store, in words that name the next step: the SDK's and urllib3's errors, for people."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import ParseError

from minio.error import MinioException, S3Error, ServerError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from services.errors import CONSORTIUM, MACHINE, NETWORK, STORE_OPERATOR, StoreError
from services.store import ObjectAbsent
from services.tls import Peer

FAILURES = (MinioException, HTTPError, OSError, ParseError, ValueError)
"""What may come out of the SDK, urllib3 and a local file."""
KEPT = "nothing half-written is visible; what waits in the outbox stays there"
AGAIN = "the kit tries again by itself; if it stays so, tell the store's operator"

CLOCK = "set this machine's clock (NTP); if it is right, the store's operator must set the store's"
TOO_LARGE = 413
"""The HTTP status of a proxy that takes no body of that size."""

_ON_THE_LINE = (HTTPError, socket.gaierror, ConnectionError, TimeoutError, ssl.SSLError)  # and not a file's
_NOT_TLS = ("WRONG_VERSION", "RECORD_LAYER")
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess"})
_WRONG_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_FULL = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "Redirect", "InvalidRegion"})
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed"})
_PASSING = frozenset({
    "ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "SlowDownRead", "SlowDownWrite", "XMinioServerNotInitialized",
})  # fmt: skip


class AccessDenied(StoreError):
    """The store does not let this party do that."""


@dataclass(frozen=True)
class Place:
    """Which store it is, and as whom this party comes to it."""

    endpoint: str
    bucket: str
    access_key: str


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(error, S3Error):
        return error.code in _PASSING or (error.response.status >= 500 and error.code not in _FULL | _UNSUPPORTED)
    if isinstance(error, ServerError):
        return error.status_code >= 500
    if isinstance(error, NameResolutionError):
        return False
    if isinstance(error, SSLError):
        # a cut under TLS shows as an end of file or a reset; a certificate does not mend itself
        return any(isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError) for one in _causes(error))
    return isinstance(error, HTTPError)


def explain(error: BaseException, doing: str, place: Place) -> StoreError:
    """The error for people.

    Args:
        error: one of `FAILURES`.
        doing: what could not be done.
        place: the store.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, S3Error):
        return _answered(error, doing, place)
    if isinstance(error, _ON_THE_LINE):
        what, fix, who = _network(error, place)
    elif isinstance(error, OSError):
        what = f"a local file cannot be used ({error.strerror or type(error).__name__})"
        fix, who = "check free space and permissions on this machine", MACHINE
    elif isinstance(error, ServerError) and error.status_code == TOO_LARGE:
        what = f"a body of that size is refused on the way to {place.endpoint} ({error})"
        fix = "raise the largest body of that proxy (nginx: client_max_body_size), or make `part_mib` smaller"
        who = f"{STORE_OPERATOR}, or {NETWORK}: whoever runs that proxy"
    elif isinstance(error, ServerError) and error.status_code >= 500:
        what, fix, who = f"{place.endpoint} fails (HTTP status {error.status_code})", AGAIN, STORE_OPERATOR
    else:
        what = f"{place.endpoint} answers with what no S3 store says"
        fix, who = "check `endpoint`; a proxy or a login page may stand in the way", NETWORK
    return StoreError(f"{doing}: {what}", fix=fix, kept=KEPT, who=who)


def _answered(error: S3Error, doing: str, place: Place) -> StoreError:
    code, status = error.code or "", error.response.status
    if code in {"NoSuchKey", "NoSuchVersion"}:
        return ObjectAbsent(f"there is no object {error.object_name}")
    if code in _DENIED:
        return AccessDenied(
            f"{doing}: the store does not let {place.access_key} do that in the bucket {place.bucket}",
            fix="check the file of `credentials`; if it is right, the consortium must provision the store again",
            kept=KEPT,
            who=CONSORTIUM,
        )
    known = {
        "RequestTimeTooSkewed": (
            "the clocks of the store and of this machine differ too much",
            CLOCK,
            MACHINE,
        ),
        "NoSuchBucket": (
            f"there is no bucket {place.bucket} at {place.endpoint}",
            "check `bucket` and `endpoint`",
            MACHINE,
        ),
        "NoSuchUpload": ("the upload was given up by somebody else", AGAIN, STORE_OPERATOR),
        "PreconditionFailed": ("the object changed while it was read", AGAIN, STORE_OPERATOR),
    }
    for codes, words in (
        (_WRONG_KEY, (
            f"the store does not know the access key {place.access_key}, or its secret is another",
            "check the file of `credentials`; the consortium provisions it",
            CONSORTIUM,
        )),
        (_FULL, (
            "the store has no space left", "the store's operator must make room or raise the quota", STORE_OPERATOR,
        )),
        (_REGION, ("the store lies in another region", "check `region` and `endpoint`", MACHINE)),
        (_UNSUPPORTED, (
            "the store cannot do what was asked", "use a store, or a version, with conditional puts", CONSORTIUM,
        )),
    ):  # fmt: skip
        known.update(dict.fromkeys(codes, words))
    answer = f"the store answers {code or 'nothing'} (HTTP status {status})"
    what, fix, who = known.get(code, (answer, AGAIN, STORE_OPERATOR))
    return StoreError(f"{doing}: {what}", fix=fix, kept=KEPT, who=who)


def _network(error: BaseException, place: Place) -> tuple[str, str, str]:
    where = place.endpoint
    if isinstance(error, SSLError | ssl.SSLError):
        return _tls(error, where)
    if isinstance(error, ProxyError):
        said = str(error.original_error) or type(error.original_error).__name__
        return (
            f"the proxy on the way to {where} fails ({said})", "check HTTPS_PROXY and NO_PROXY, or ask who runs it",
            NETWORK,
        )  # fmt: skip
    resolve = (f"the name in {where} does not resolve", "check `endpoint` and this machine's DNS", NETWORK)
    closed = (
        f"nothing listens at {where}", "check the port in `endpoint`, and that the store runs", STORE_OPERATOR,
    )  # fmt: skip
    blocked = (
        f"{where} does not answer", "have outgoing connections to it allowed by the firewall", NETWORK,
    )  # fmt: skip
    kinds: dict[type[BaseException], tuple[str, str, str]] = {  # each before the kind that it is a special case of
        NameResolutionError: resolve,
        socket.gaierror: resolve,
        NewConnectionError: closed,
        ConnectionRefusedError: closed,
        ConnectTimeoutError: blocked,
        TimeoutError: blocked,
        ReadTimeoutError: (f"{where} fell silent", AGAIN, STORE_OPERATOR),
        BaseException: (f"the connection to {where} broke", AGAIN, NETWORK),
    }
    return next(words for kind, words in kinds.items() if isinstance(error, kind))


def _tls(error: BaseException, where: str) -> tuple[str, str, str]:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Peer("the store", where, "endpoint", STORE_OPERATOR).unverified(cause)
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            said = str(cause.reason).replace("_", " ").lower()
            return (
                f"{where} refuses this party's client certificate ({said})",
                "check `certificate` and `key`; have the consortium sign a new certificate request",
                CONSORTIUM,
            )
        if isinstance(cause, ssl.SSLError) and any(word in (cause.reason or "") for word in _NOT_TLS):
            return f"{where} does not speak TLS", "check the port in `endpoint`", MACHINE
    return f"TLS with {where} broke", AGAIN, NETWORK


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what urllib3 wrapped in it, outermost first."""
    yield error
    inner = [error.__cause__, *error.args]
    for one in inner:
        if isinstance(one, BaseException):
            yield from _causes(one)
