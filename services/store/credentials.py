"""With what a party shows itself to an S3 store: one small private file, written once and read at every start."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import ConfigError
from services.files import others_can_read, write_atomic

_LIMIT = 4096


class StoreCredentials(BaseModel):
    """A party's access key and its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    access_key: str = Field(min_length=1)
    secret_key: str = Field(min_length=1)

    def write(self, path: Path) -> None:
        """Write them to a file that this party alone can read."""
        write_atomic(path, self.model_dump_json().encode())


def read_credentials(path: Path) -> StoreCredentials:
    """The credentials in a file.

    Raises:
        ConfigError: there are none, or others can read them.
    """
    try:
        with path.open("rb") as file:
            if others_can_read(file):
                raise ConfigError(f"the store credentials {path} can be read by others", fix=f"chmod 600 {path}")
            return StoreCredentials.model_validate_json(file.read(_LIMIT))
    except OSError as error:
        raise ConfigError(
            f"the store credentials {path} cannot be read: {error.strerror}",
            fix="`enroll --admission FILE` brings them; who has others names their file in `credentials`",
        ) from None
    except ValidationError:  # its text would show what it could not read
        raise ConfigError(
            f"{path} holds no store credentials", fix='it must read {"access_key": "...", "secret_key": "..."}'
        ) from None
