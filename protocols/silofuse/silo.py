"""A silo's half of SiloFuse: pseudonyms, codes of the common training rows, and private decoding of the slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import structlog

from protocols.learning.alignment import (
    MAX_RECORDS,
    SECRET_BYTES,
    Order,
    check_order,
    make_secret,
    pseudonyms,
)
from protocols.learning.stored import Stored, storing, write_csv, write_parquet
from protocols.learning.table import scan_table
from protocols.learning.tensors import TensorSpec, read_tensors
from protocols.silofuse import UNPROTECTED, forms, report
from protocols.silofuse.messages import LATENTS, LAYOUT, NOISED, ORDER, PSEUDONYMS, SECRET, SLICE
from protocols.silofuse.noised import Encoder, upload
from protocols.silofuse.parameters import SiloFuseParameters
from protocols.silofuse.readings import Readings
from protocols.silofuse.streams import Decoder, Form, decode, encode
from protocols.spec import parse_spec
from services.artifact import NoData, Spend, Unprotected
from services.contract import Context, Done, Failed, Message, ProgressCallback, Received, Step, Work
from services.errors import ConfigError, InvalidArtifact
from services.files import write_atomic

TABLE, IDENTIFIERS = "table", "identifiers.parquet"
SYNTHETIC = "synthetic"
UPLOAD = "latents.safetensors"
AUTOENCODER = "autoencoder.safetensors"
ROWS = "rows.csv"
"""Which of the silo's own records were common, and which of these no training saw: for its own later measuring."""
_log = structlog.get_logger()


class Silo:
    """See `services.contract.Half`.

    Args:
        context: the run as this silo knows it; its data file is read once, into the workspace.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spec = parse_spec(context.spec)
        parameters = SiloFuseParameters.model_validate(self._spec.training)
        self._form, self._noise = parameters.form, parameters.noise
        self._columns = self._spec.columns_of(context.me)
        if self._spec.identifier is None:
            raise ConfigError("SiloFuse needs an identifier column in the run specification")
        self._identifier = self._spec.identifier.column
        self._keeper = context.silos[0]  # who makes the alignment secret
        self._seen: set[str] = set()
        self._handlers: dict[tuple[str, str], Callable[[Received], Iterator[Step]]] = {
            (SECRET, self._keeper): self._take_secret,
            (ORDER, context.coordinator): self._take_order,
            (SLICE, context.coordinator): self._take_slice,
        }

    def begin(self) -> Iterator[Step]:
        """Make the secret, where that is this silo's part."""
        if self._context.me == self._keeper:
            yield Work("secret", self._make_secret, to=self._context.silos[1:])
            yield from self._pseudonymise()

    def receive(self, artifact: Received) -> Iterator[Step]:
        """See `services.contract.Half.receive`."""
        handler = self._handlers.get((artifact.kind, artifact.sender))
        if handler is None or artifact.kind in self._seen:
            raise InvalidArtifact(f"{artifact.sender} has no {artifact.kind} to send to this silo now")
        yield from handler(artifact)

    def deadline(self, name: str) -> Iterator[Step]:
        """See `services.contract.Half.deadline`."""
        awaited = {
            "the alignment secret": (self._keeper, SECRET),
            "the common order": (self._context.coordinator, ORDER),
            "the synthetic codes": (self._context.coordinator, SLICE),
        }
        for what, (who, kind) in awaited.items():
            if kind not in self._seen and who != self._context.me:
                yield Failed(f"the {name}'s deadline passed: {who} was awaited for {what}")
                return

    # alignment

    def _make_secret(self, _: ProgressCallback) -> Message:
        path = self._context.workspace / "secret"
        if not path.exists():
            write_atomic(path, make_secret())
        return Message(SECRET, path, NoData())

    def _take_secret(self, artifact: Received) -> Iterator[Step]:
        if artifact.path.stat().st_size != SECRET_BYTES:  # before it is read: it may be gigabytes long
            raise InvalidArtifact("the alignment secret has a wrong length")
        write_atomic(self._context.workspace / "secret", artifact.path.read_bytes())
        self._seen.add(SECRET)
        yield from self._pseudonymise()

    def _pseudonymise(self) -> Iterator[Step]:
        yield Work("pseudonyms", self._pseudonyms, to=(self._context.coordinator,))

    def _pseudonyms(self, progress: ProgressCallback) -> Message:
        if self._context.data is None:
            raise ConfigError("the agent has no table", fix="set `data` in its configuration")
        progress("align", 0, 2, None)
        secret = (self._context.workspace / "secret").read_bytes()
        # a snapshot in pseudonym order: a later change of the export must not shift the common order
        with storing(self._context.workspace / TABLE, self._columns) as snapshot:
            ids = scan_table(self._context.data, self._columns, self._spec.identifier, snapshot.append)
            progress("align", 1, 2, None)
            found, rows = pseudonyms(secret, self._context.run, ids)
            snapshot.arrange(rows)
            ids.iloc[rows].to_frame(self._identifier).to_parquet(snapshot.folder / IDENTIFIERS, index=False)
        progress("align", 2, 2, None)
        return Message(PSEUDONYMS, found.tobytes(), Unprotected(reason=UNPROTECTED[PSEUDONYMS]))

    def _take_order(self, artifact: Received) -> Iterator[Step]:
        read = read_tensors(
            artifact.path,
            {
                "places": TensorSpec("int64", (None,), MAX_RECORDS),
                "held_out": TensorSpec("uint8", (None,), MAX_RECORDS),
            },
        )
        if read["places"].shape != read["held_out"].shape:
            raise InvalidArtifact("the common order is malformed")
        order = Order(read["places"], read["held_out"].astype(np.bool_))
        ids = pd.read_parquet(self._context.workspace / TABLE / IDENTIFIERS)[self._identifier]
        check_order(order, len(ids))
        self._seen.add(ORDER)
        self._order = order
        training = int((~order.held_out).sum())
        if training < self._context.minimum_rows:
            yield Failed(
                f"the silos have {training} training records in common, "
                f"and this silo's policy wants at least {self._context.minimum_rows}"
            )
            return
        rows = pd.DataFrame(
            {
                self._identifier: ids.iloc[order.places].reset_index(drop=True),
                "part": pd.Categorical(order.held_out).rename_categories({False: "training", True: "held out"}),
            }
        )
        rows.to_csv(self._context.workspace / ROWS, index=False)
        if self._noise is None:
            yield Work("latents", self._encode, to=(self._context.coordinator,))
        else:
            yield Work("latents", self._release, to=(self._context.coordinator,), spends=self._noise.spend)
        if self._form == "layout":
            yield Work("layout", self._lay_out, to=(self._context.coordinator,))

    def _common(self, *, held_out: bool) -> Stored:
        """The held-out or the training rows of the common records."""
        order = self._order
        places = order.places[order.held_out if held_out else ~order.held_out]
        return Stored.open(self._context.workspace / TABLE, self._columns).at(places)

    # learning

    def _encode(self, progress: ProgressCallback) -> Message:
        path = self._context.workspace / AUTOENCODER
        training = self._common(held_out=False)
        # the secret codebooks and rotation are drawn once: a restart must not upload other codes of the same rows
        if not path.exists():
            forms.fit(self._form, training, self._columns, self._context, progress).save(path)
        encode(self._autoencoder(), training, self._context.workspace / UPLOAD, progress)
        return Message(LATENTS, self._context.workspace / UPLOAD, Unprotected(reason=UNPROTECTED[LATENTS]))

    def _release(self, progress: ProgressCallback) -> Message:
        """The same under noise, by an encoder that is drawn without a look at any row."""
        assert self._noise is not None  # noqa: S101 - nothing else releases
        path = self._context.workspace / AUTOENCODER
        if not path.exists():
            Encoder.draw(self._columns, self._noise.skewed).save(path)
        training, file = self._common(held_out=False), self._context.workspace / UPLOAD
        executed = upload(self._encoder(), training, self._noise.mechanism, file, progress)
        return Message(NOISED, file, Spend(mechanism=executed.model_dump(mode="json"), delta=self._noise.delta))

    def _lay_out(self, _: ProgressCallback) -> Message:
        path = self._context.workspace / "layout.safetensors"
        forms.write_layout(self._autoencoder(), path)
        return Message(LAYOUT, path, Unprotected(reason=UNPROTECTED[LAYOUT]))

    def _autoencoder(self) -> Form:
        return forms.load(self._form, self._context.workspace / AUTOENCODER, self._columns)

    def _encoder(self) -> Encoder:
        assert self._noise is not None  # noqa: S101 - without noise there is an autoencoder
        return Encoder.load(self._context.workspace / AUTOENCODER, self._columns, self._noise.skewed)

    def _decoder(self) -> Decoder:
        if self._noise is None:
            return self._autoencoder()
        return Readings.of(self._encoder(), self._common(held_out=False))

    def _width(self) -> int:
        return (self._autoencoder() if self._noise is None else self._encoder()).width

    def _read_slice(self, artifact: Received) -> npt.NDArray[np.float32]:
        return self._read(artifact.path, self._spec.rows)

    def _read(self, path: Path, rows: int) -> npt.NDArray[np.float32]:
        """Latents as wide as this silo's, as a map of their file."""
        return read_tensors(path, {"latents": TensorSpec("float32", (rows, self._width()))})["latents"]

    def _take_slice(self, artifact: Received) -> Iterator[Step]:
        if ORDER not in self._seen:
            raise InvalidArtifact("synthetic codes came before this silo sent any")
        self._read_slice(artifact)
        self._seen.add(SLICE)
        yield Work("decode", lambda progress: self._decode(artifact, progress))
        names = ["synthetic.parquet", "synthetic.csv", ROWS]
        if report.available():
            yield Work("report", self._report)
            names += ["report.json", "report.html"]
        else:
            _log.warning("no report: the `evaluation` extra is not installed", run=self._context.run)
        yield Done({name: self._context.workspace / name for name in names})

    def _decode(self, artifact: Received, progress: ProgressCallback) -> None:
        workspace = self._context.workspace
        synthetic = decode(self._decoder(), self._read_slice(artifact), workspace / SYNTHETIC, progress)
        write_parquet(synthetic, workspace / "synthetic.parquet")
        write_csv(synthetic, workspace / "synthetic.csv")

    def _report(self, progress: ProgressCallback) -> None:
        training = self._common(held_out=False)
        report.write(
            self._context,
            self._spec,
            training,
            self._common(held_out=True),
            Stored.open(self._context.workspace / SYNTHETIC, self._columns),
            latents=self._read(self._context.workspace / UPLOAD, len(training)),
            progress=progress,
        )


half = Silo
