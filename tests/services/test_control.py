"""A command whose answer does not come is not told as one that was never given."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.control import ControlServer, ask
from services.errors import NoAnswer, NotRunning


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sk-"))  # a socket's path is short
    yield path
    shutil.rmtree(path)


def test_nobody_there_is_not_running(folder: Path) -> None:
    with pytest.raises(NotRunning):
        ask(folder, "submit")


def test_a_command_that_was_taken_and_takes_long_may_still_be_carried_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, carried_out = threading.Event(), threading.Event()

    def submit() -> str:
        answers.wait()  # as on a store that is silent
        carried_out.set()
        return "trial-1"

    server = ControlServer(folder, {"submit": submit})
    monkeypatch.setattr("services.control._PATIENCE", 0.2)
    with pytest.raises(NoAnswer) as told:
        ask(folder, "submit")
    assert "before you give it again" in told.value.fix
    assert told.value.exit_code != NotRunning.exit_code
    answers.set()
    assert carried_out.wait(60)
    server.close()


def test_a_service_that_dies_over_a_command_may_have_carried_it_out(folder: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(folder / "control.sock"))
    listening.listen(1)

    def die() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)

    dying = threading.Thread(target=die)
    dying.start()
    with pytest.raises(NoAnswer):
        ask(folder, "submit")
    dying.join()
    listening.close()
