"""``lithops-mp run``: programs that import ``multiprocessing``, unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

PROGRAM = """
import concurrent.futures.process
import multiprocessing
import sys
from multiprocessing import Process, Queue
import multiprocessing.connection as connection

from {helper} import double, name_of_helper

class Item:
    def __init__(self, value):
        self.value = value

def work(queue, connection):
    import multiprocessing.pool
    from multiprocessing import synchronize
    from {helper} import double  # relative in a package, where -m says what that is
    item = Item(double(connection.recv()))
    item.names = [multiprocessing.__name__, synchronize.__name__, name_of_helper()]
    queue.put(item)

if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    queue = Queue()
    process = Process(target=work, args=(queue, there))
    process.start()
    here.send(21)
    item = queue.get()
    process.join()
    assert type(item) is Item and item.value == 42, item
    print(*item.names, connection.__name__)
    print(concurrent.futures.process.mp.__name__)
    print(sys.argv[0].rpartition("/")[2], *sys.argv[1:])
    sys.exit(3)
""".replace("    import multiprocessing.pool  # noqa\n", "")

HELPER = """
import multiprocessing

def double(value):
    return 2 * value

def name_of_helper():
    return multiprocessing.current_process().__class__.__module__
"""


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = dict(os.environ)
    environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-m", "lithops_mp", "run", *words],
        capture_output=True,
        text=True,
        env=environ,
        cwd=folder,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("how", ["file", "module", "package", "folder", "archive"])
def test_programs_own_modules_get_ours_and_no_others(tmp_path: Path, how: str) -> None:
    package = tmp_path / "prog"
    package.mkdir()
    file = package / ("start.py" if how in ("file", "module") else "__main__.py")
    relative = how in ("module", "package")
    file.write_text(PROGRAM.replace("{helper}", ".helper" if relative else "helper"))
    (package / "helper.py").write_text(HELPER)
    (package / "__init__.py").write_text("")
    if how == "archive":
        zipapp.create_archive(package, tmp_path / "prog.pyz")
    words = {
        "file": (str(file),),
        "module": ("-m", "prog.start"),
        "package": ("-m", "prog"),
        "folder": ("prog",),
        "archive": ("prog.pyz",),
    }[how]
    done = run(*words, "--flag", "x", folder=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == [
        "lithops_mp lithops_mp.synchronize lithops_mp.process lithops_mp.connection",
        "multiprocessing",
        f"{words[0] if how in ('folder', 'archive') else file.name} --flag x",
    ]


@pytest.mark.parametrize("words", [("nothing.py",), ("-m", "no_such_module"), ("-m", "json.x.y")])
def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words, folder=tmp_path)
    assert done.returncode == 2
    assert words[-1].partition(".")[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
