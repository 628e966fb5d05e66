"""A change of the trust on its way to enough signatures: a file that keyholders pass on or sign side by side.

It holds the new targets, the roster that they name, and a new root where keys change. A keyholder's machine needs
nothing else and no network: the draft says itself who must sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from services.artifact import canonical_json, parse_json
from services.errors import InvalidArtifact, TrustError
from services.files import write_atomic
from services.keys import SigningKey, VerifyKey, fingerprint
from services.trust import MAX_ROSTER_BYTES, ROSTER, Roster

_LIMIT = 4 * MAX_ROSTER_BYTES


class Draft(BaseModel):
    """Targets, roster and perhaps a root, with the signatures that they have so far.

    Attributes:
        before: the root in force, as TUF writes it; None at the founding.
        root: the root that follows it, where keys change.
        targets: the new targets.
        roster: the exact text of the roster that they name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: dict[str, Any] | None
    root: dict[str, Any] | None
    targets: dict[str, Any]
    roster: str

    @classmethod
    def make(
        cls, before: Metadata[Root] | None, root: Metadata[Root] | None, targets: Metadata[Targets], roster: bytes
    ) -> Self:
        """A draft without signatures."""
        return cls(
            before=before.to_dict() if before else None,
            root=root.to_dict() if root else None,
            targets=targets.to_dict(),
            roster=roster.decode(),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """A draft from its file.

        Raises:
            TrustError: it is absent or malformed.
        """
        try:
            with path.open("rb") as file:
                found = cls.model_validate(parse_json(file.read(_LIMIT + 1), _LIMIT))
            found.read_roster()
            _ = found.authority, found.new_targets, found.new_root
        except OSError as error:
            raise TrustError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
        except (InvalidArtifact, ValidationError, DeserializationError, RepositoryError, LookupError) as error:
            raise TrustError(f"{path} is no draft of this kit", fix="ask the coordinator to send it again") from error
        return found

    def write(self, path: Path) -> None:
        """Write the draft into a file; nothing in it is secret."""
        write_atomic(path, canonical_json(self.model_dump(mode="json")), mode=0o644)

    @property
    def new_root(self) -> Metadata[Root] | None:
        """The root that follows the one in force, if there is one."""
        return _metadata(self.root, Root) if self.root else None

    @property
    def new_targets(self) -> Metadata[Targets]:
        """The new targets."""
        return _metadata(self.targets, Targets)

    @property
    def authority(self) -> Root:
        """The root under which the new targets must be signed."""
        return self._authority.signed

    @property
    def fingerprint(self) -> str:
        """Of that root, as people read it to each other over the telephone."""
        return fingerprint(self._authority.signed_bytes)

    @property
    def _authority(self) -> Metadata[Root]:
        return _metadata(self.root or self.before or {}, Root)

    def read_roster(self) -> Roster:
        """The roster, which is the one that the targets name.

        Raises:
            TrustError: it is another.
        """
        data = self.roster.encode()
        try:
            self.new_targets.signed.targets[ROSTER].verify_length_and_hashes(data)
            return Roster.model_validate(parse_json(data, MAX_ROSTER_BYTES))
        except (RepositoryError, LookupError, InvalidArtifact, ValidationError) as error:
            raise TrustError(
                "the draft's targets name another roster", fix="ask the coordinator to send it again"
            ) from error

    def sign(self, key: SigningKey) -> Self:
        """The same draft with one keyholder's signatures.

        Raises:
            TrustError: the key may sign neither for the root in force nor for the next one.
        """
        if not self.asks(key.public):
            raise TrustError("this key is no keyholder's of this federation", fix="check which key file you gave")
        root, targets = self.new_root, self.new_targets
        for metadata in (targets, root):
            if metadata is not None:
                metadata.sign(key.signer(), append=True)
        return self.model_copy(update={"root": root.to_dict() if root else None, "targets": targets.to_dict()})

    def merge(self, others: Iterable[Self]) -> Self:
        """The same draft with the signatures of its copies.

        Raises:
            TrustError: a copy differs in more than signatures.
        """
        merged = self.model_dump()
        for other in others:
            copy = other.model_dump()
            for part in ("root", "targets"):
                if merged[part] is None or copy[part] is None:
                    continue
                known = {one["keyid"] for one in merged[part]["signatures"]}
                merged[part]["signatures"] += [one for one in copy[part]["signatures"] if one["keyid"] not in known]
                copy[part]["signatures"] = merged[part]["signatures"]
            if copy != merged:
                raise TrustError("these drafts are not copies of one", fix="have all keyholders sign the same draft")
        return type(self).model_validate(merged)

    def lacks(self) -> int:
        """How many keyholders must still sign."""
        targets, root = self.new_targets, self.new_root
        missing = self.authority.get_verification_result("targets", targets.signed_bytes, targets.signatures).missing
        if root is not None:
            before = _metadata(self.before, Root).signed if self.before else None
            result = root.signed.get_root_verification_result(before, root.signed_bytes, root.signatures)
            missing = max(missing, result.first.missing, result.second.missing)
        return missing

    def asks(self, key: VerifyKey) -> bool:
        """Whether this key is a keyholder's, in the root in force or in the one that follows it."""
        roots = (_metadata(one, Root).signed for one in (self.before, self.root) if one)
        return any(key.key_id in root.roles["root"].keyids for root in roots)


def _metadata(value: dict[str, Any], kind: type[Any]) -> Metadata[Any]:
    found: Metadata[Any] = Metadata.from_bytes(canonical_json(value))  # from_dict would consume the value
    if not isinstance(found.signed, kind):
        raise TrustError("the draft is malformed", fix="ask the coordinator to send it again")
    return found
