"""What is the matter with an S3 store, in words that name the next step: the SDK's and urllib3's errors, for people."""

from __future__ import annotations

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

from services.errors import StoreError
from services.store import ObjectAbsent

FAILURES = (MinioException, HTTPError, OSError, ParseError, ValueError)
"""What may come out of the SDK, urllib3 and a local file."""
KEPT = "nothing half-written is visible; what waits in the outbox stays there"
AGAIN = "the kit tries again by itself; if it stays so, tell the store's operator"

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
    if isinstance(error, HTTPError):
        what, fix = _network(error, place)
    elif isinstance(error, OSError):
        what = f"a local file cannot be used ({error.strerror or type(error).__name__})"
        fix = "check free space and permissions on this machine"
    elif isinstance(error, ServerError) and error.status_code >= 500:
        what, fix = f"{place.endpoint} fails (HTTP status {error.status_code})", AGAIN
    else:
        what = f"{place.endpoint} answers with what no S3 store says"
        fix = "check `endpoint`; a proxy or a login page may stand in the way"
    return StoreError(f"{doing}: {what}", fix=fix, kept=KEPT)


def _answered(error: S3Error, doing: str, place: Place) -> StoreError:
    code, status = error.code or "", error.response.status
    if code in {"NoSuchKey", "NoSuchVersion"}:
        return ObjectAbsent(f"there is no object {error.object_name}")
    if code in _DENIED:
        return AccessDenied(
            f"{doing}: the store does not let {place.access_key} do that in the bucket {place.bucket}",
            fix="check the file of `credentials`; if it is right, the consortium must provision the store again",
            kept=KEPT,
        )
    known = {
        "RequestTimeTooSkewed": (
            "the clocks of the store and of this machine differ too much",
            "set this machine's clock (NTP); if it is right, the store's operator must set the store's",
        ),
        "NoSuchBucket": (f"there is no bucket {place.bucket} at {place.endpoint}", "check `bucket` and `endpoint`"),
        "NoSuchUpload": ("the upload was given up by somebody else", AGAIN),
        "PreconditionFailed": ("the object changed while it was read", AGAIN),
    }
    for codes, words in (
        (_WRONG_KEY, (
            f"the store does not know the access key {place.access_key}, or its secret is another",
            "check the file of `credentials`; the consortium provisions it",
        )),
        (_FULL, ("the store has no space left", "the store's operator must make room or raise the quota")),
        (_REGION, ("the store lies in another region", "check `region` and `endpoint`")),
        (_UNSUPPORTED, ("the store cannot do what was asked", "use a store, or a version, with conditional puts")),
    ):  # fmt: skip
        known.update(dict.fromkeys(codes, words))
    what, fix = known.get(code, (f"the store answers {code or 'nothing'} (HTTP status {status})", AGAIN))
    return StoreError(f"{doing}: {what}", fix=fix, kept=KEPT)


def _network(error: HTTPError, place: Place) -> tuple[str, str]:
    where = place.endpoint
    if isinstance(error, SSLError):
        return _tls(error, where)
    kinds = {  # each before the kind that it is a special case of
        ProxyError: (f"the proxy on the way to {where} fails", "check HTTPS_PROXY and NO_PROXY, or ask who runs it"),
        NameResolutionError: (f"the name in {where} does not resolve", "check `endpoint` and this machine's DNS"),
        NewConnectionError: (f"nothing listens at {where}", "check the port in `endpoint`, and that the store runs"),
        ConnectTimeoutError: (f"{where} does not answer", "have outgoing connections to it allowed by the firewall"),
        ReadTimeoutError: (f"{where} fell silent", AGAIN),
        HTTPError: (f"the connection to {where} broke", AGAIN),
    }
    return next(words for kind, words in kinds.items() if isinstance(error, kind))


def _tls(error: SSLError, where: str) -> tuple[str, str]:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {where} does not hold ({cause.verify_message})",
                "check `endpoint` and `ca`; if both are right, the store's operator must renew its certificate",
            )
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            said = str(cause.reason).replace("_", " ").lower()
            return (
                f"{where} refuses this party's client certificate ({said})",
                "check `certificate` and `key`; have the consortium sign a new certificate request",
            )
        if isinstance(cause, ssl.SSLError) and "WRONG_VERSION" in (cause.reason or ""):
            return f"{where} does not speak TLS", "check the port in `endpoint`"
    return f"TLS with {where} broke", AGAIN


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what urllib3 wrapped in it, outermost first."""
    yield error
    inner = [error.__cause__, *error.args]
    for one in inner:
        if isinstance(one, BaseException):
            yield from _causes(one)
