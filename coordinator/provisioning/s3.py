"""Who may do what in the federation's bucket, as S3 stores are told it: IAM policies, or SeaweedFS identities.

A party writes and deletes under its own prefix, reads and lists the federation's, where everything is sealed, and
sees nothing of other federations in the bucket. The coordinator besides writes the federation's trust. One
sight remains in the IAM form: S3 has no condition for listing unfinished uploads, so that a party may see the names
of those in the whole bucket; give each federation a bucket of its own where that matters.

SeaweedFS keeps identities and their secrets in one document: it goes to the store's operator and nowhere else. Its
right to write includes the right to delete.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from services.artifact import check_name
from services.store.credentials import StoreCredentials
from services.trust import FOLDER, RESERVED_NAMES


def new_credentials() -> StoreCredentials:
    """An access key and its secret, in the lengths that every S3 store takes (20 and 40 characters)."""
    return StoreCredentials(access_key=secrets.token_hex(10), secret_key=secrets.token_urlsafe(30))


def policy(federation: str, party: str, *, bucket: str, coordinator: str) -> dict[str, Any]:
    """The IAM policy of one party, as AWS, MinIO and Ceph read it.

    Args:
        federation: the federation's name.
        party: whose policy.
        bucket: the federation's bucket.
        coordinator: which of the parties is the coordinator.

    Raises:
        ValueError: a name is none, or is taken by the federation itself.
    """
    whole, objects = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{check_name(federation)}"
    listing = _allow(["ListBucket", "ListBucketVersions"], whole)
    listing["Condition"] = {"StringLike": {"s3:prefix": [f"{federation}/*"]}}
    statements = [
        listing,
        _allow(["GetBucketVersioning", "ListBucketMultipartUploads"], whole),
        _allow(["GetObject", "GetObjectVersion"], f"{objects}/*"),
        _allow(
            ["AbortMultipartUpload", "DeleteObject", "DeleteObjectVersion", "ListMultipartUploadParts", "PutObject"],
            f"{objects}/{_party(party)}/*",
        ),
    ]
    if party == coordinator:
        statements.append(_allow(["PutObject"], f"{objects}/{FOLDER}/*"))
    return {"Version": "2012-10-17", "Statement": statements}


def no_rights(bucket: str) -> dict[str, Any]:
    """The IAM policy of a party that left."""
    whole = f"arn:aws:s3:::{bucket}"
    statement = {"Effect": "Deny", "Action": ["s3:*"], "Resource": [whole, f"{whole}/*"]}
    return {"Version": "2012-10-17", "Statement": [statement]}


def seaweed_identities(
    federation: str, bucket: str, parties: Mapping[str, StoreCredentials], *, coordinator: str
) -> dict[str, Any]:
    """The identities of every party, as SeaweedFS reads them from the file of `-s3.config`.

    Args:
        federation: the federation's name.
        bucket: the federation's bucket.
        parties: every party's credentials, by its name.
        coordinator: which of them is the coordinator.

    Raises:
        ValueError: as `policy`.
    """
    place = f"{bucket}/{check_name(federation)}"
    identities = []
    for name, credentials in sorted(parties.items()):
        own = [_party(name), *([FOLDER] if name == coordinator else [])]
        identities.append(
            {
                "name": name,
                "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
                "actions": [f"Read:{place}/*", f"List:{place}/*", *(f"Write:{place}/{folder}/*" for folder in own)],
            }
        )
    return {"identities": identities}


def _party(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is taken by the federation itself")
    return check_name(name)


def _allow(actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": list(resources)}
