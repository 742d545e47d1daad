"""Programs from source text, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lithops_mp as mp
from lithops_mp._store.settings import URL_VARIABLE

from .programs import Program, url_of
from .servers import PATIENCE, Server


class Script(Program):
    """A program from source text; everything it starts carries a mark."""

    def __init__(
        self, source: str, folder: Path, *, server: Server | None = None, **options: Any
    ) -> None:
        self.mark = f"LMP_TEST_MARK={uuid.uuid4().hex}"
        self.path = folder / "program.py"
        self.path.write_text(textwrap.dedent(source))
        (folder / "tmp").mkdir(exist_ok=True)
        environ = {k: v for k, v in os.environ.items() if k != URL_VARIABLE}
        environ["LMP_TEST_MARK"] = self.mark.partition("=")[2]
        environ["TMPDIR"] = str(folder / "tmp")
        environ["PYTHONPATH"] = str(Path(mp.__file__).parents[1])
        environ["PYTHONFAULTHANDLER"] = "1"
        # With it a line is written in pieces, and lines of two processes mix.
        environ.pop("PYTHONUNBUFFERED", None)
        if server:
            environ[URL_VARIABLE] = url_of(server.settings)
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options}
        self.process = subprocess.Popen(
            [sys.executable, str(self.path)],
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environ,
            start_new_session=True,
            **options,
        )
        self._said = b""

    def finish(self, told: bytes | None = None) -> tuple[int, str, str]:
        """Its exit code, and what it wrote."""
        out, err = self.process.communicate(told, timeout=PATIENCE * 2)
        return self.process.returncode, out.decode(), err.decode()

    def read(self, count: int) -> bytes:
        """So many bytes of its output."""
        assert self.process.stdout
        data = self.process.stdout.read(count)
        assert len(data) == count, self.errors()
        return data

    def wait_for(self, *lines: str) -> None:
        """Read its output until these lines have come, in any order."""
        assert self.process.stdout
        missing = set(lines)
        while missing:
            found = self.process.stdout.readline().decode()
            assert found, f"it ended without {missing}: {self.errors()}"
            missing.discard(found.removesuffix("\n"))


Scripts = Callable[..., Script]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Scripts]:
    with contextlib.ExitStack() as stack:

        def start(source: str, **options: Any) -> Script:
            found = Script(source, tmp_path, **options)
            stack.callback(found.close)
            return found

        yield start
