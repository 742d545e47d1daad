"""Headers of Lua scripts against their bodies, and the files made from them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lithops_mp._store.scripts import REGISTRY, script

LUA = Path(__file__).resolve().parents[2] / "lua"
SCRIPTS = {
    path.relative_to(LUA).with_suffix("").as_posix(): path
    for path in sorted(LUA.glob("*/*.lua"))
    if path.parent.name != "include"
}

SLOT = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")
INDEX = re.compile(r"\b(?:KEYS|ARGV)\b")
#: A word in quotes that is not the name of a command.
QUOTED = re.compile(r"(?<!redis\.call\()(?<!redis\.pcall\()'([A-Z][A-Z_]+)'")
#: Options of commands, hints that are no replies, and what a get tells a put.
NO_REPLIES = {"MAXLEN", "WITHSCORES", "LIMIT", "REPLACE", "COUNT", "RANK", "BEFORE"}
NO_REPLIES |= {"ASK", "FREE", "READY"}
NO_REPLIES_OF = {"queue/get": {"PUT"}, "pool/close": {"CLOSED"}, "pool/bury": {"CLOSED"}}
NO_REPLIES_OF |= {"dict/enter": {"OK"}}

#: So short that a name for a slot would only be one more thing to read.
SHORT = 5


def header(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("--")]


def body(path: Path) -> list[str]:
    """Lines of code, without comments."""
    lines = (line.partition("--")[0].rstrip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def declared(path: Path) -> set[str]:
    found = (re.match(r"^-- ((?:KEYS|ARGV)\[\d+\]) \w+", line) for line in header(path))
    return {match[1] for match in found if match}


def quoted(path: Path) -> set[str]:
    return set(QUOTED.findall("\n".join(body(path)))) - NO_REPLIES


def included(path: Path) -> list[Path]:
    names = re.findall(r"^--- @include (.+)$", path.read_text(), re.MULTILINE)
    return [LUA / "include" / f"{name.strip()}.lua" for line in names for name in line.split(",")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_slots_of_the_header_are_those_of_the_body(name):
    path = SCRIPTS[name]
    used = {f"{kind}[{index}]" for line in body(path) for kind, index in SLOT.findall(line)}
    if any(re.search(r"\b(KEYS|ARGV)\b(?!\[)", line) for line in body(path)):
        used |= {slot for slot in declared(path) if slot.startswith("KEYS")}  # all of them
    assert used == declared(path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_slots_are_bound_to_names_first(name):
    lines = body(SCRIPTS[name])
    if len(lines) <= SHORT:
        return
    binding = [re.match(r"^local [\w, ]+ = .*\b(KEYS|ARGV)\[", line) is not None for line in lines]
    below = lines[binding.index(False) :]
    loop_over_all = "in ipairs(KEYS) do"
    assert not [line for line in below if INDEX.search(line) and loop_over_all not in line]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_replies_of_the_header_are_those_of_the_body(name):
    path, replies = SCRIPTS[name], set(script(name).replies)
    shared = set().union(*(quoted(part) for part in included(path)))
    assert quoted(path) - NO_REPLIES_OF.get(name, set()) <= replies, "not in the header"
    assert replies <= quoted(path) | shared, "in the header alone"


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_included_is_used(name):
    path = SCRIPTS[name]
    parts = {part.stem: part for part in included(path)}
    for stem, part in parts.items():
        names = re.findall(r"^local (?:function )?(\w+)", part.read_text(), re.MULTILINE)
        others = [path, *(other for other in parts.values() if other != part)]
        text = "\n".join("\n".join(body(other)) for other in others)
        assert any(re.search(rf"\b{word}\b", text) for word in names), stem


def test_invariants_say_the_same_everywhere():
    """I3 is one sentence, in every header and in the README."""
    texts: dict[str, set[str]] = {}
    for path in SCRIPTS.values():
        for line in header(path):
            if match := re.match(r"^-- (I\d+) (.+)$", line):
                texts.setdefault(match[1], set()).add(match[2])
    assert {number: text for number, text in texts.items() if len(text) > 1} == {}
    readme = " ".join((LUA / "README.md").read_text().split())
    missing = [f"{n} {t}" for n, (t,) in texts.items() if f"| {n} | {t}" not in readme]
    assert not missing


def test_the_readme_lists_every_script():
    readme = (LUA / "README.md").read_text()
    assert not [name for name in SCRIPTS if f"`{name}`" not in readme]


def test_the_generated_module_is_fresh():
    command = [sys.executable, str(LUA / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_golden_file_names_every_script():
    golden = json.loads((LUA / "versions.json").read_text())
    wanted = {name: {"version": s.version, "sha": s.sha} for name, s in REGISTRY.items()}
    assert golden == wanted
    assert set(wanted) == set(SCRIPTS)


def test_a_sha_is_that_of_the_source():
    for name, found in REGISTRY.items():
        assert hashlib.sha1(found.source.encode()).hexdigest() == found.sha, name


def test_a_changed_text_under_an_old_version_is_refused(tmp_path):
    """The rule that makes a version name one text for ever."""
    changed = json.loads((LUA / "versions.json").read_text())
    changed["sem/acquire"]["sha"] = "0" * 40
    copy = tmp_path / "lua"
    for path in LUA.rglob("*"):
        if path.is_file() and path.suffix in (".lua", ".py"):
            target = copy / path.relative_to(LUA)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (copy / "versions.json").write_text(json.dumps(changed))
    command = [sys.executable, str(copy / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "sem/acquire.lua changed but is still @version" in done.stderr


def test_wrong_numbers_of_keys_and_arguments_are_refused_before_any_io():
    acquire = script("sem/acquire")
    with pytest.raises(TypeError, match="takes the keys"):
        acquire.on("one")
    with pytest.raises(TypeError, match="takes the arguments"):
        acquire.on("state", "waiters").pack(("lock",))
