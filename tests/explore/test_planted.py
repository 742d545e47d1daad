"""The explorer finds planted bugs: a script with one line removed or spoiled."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lithops_mp._store.scripts import script

from .containers import (
    AS_LIST,
    DICT,
    LARGE,
    LIST,
    enterer,
    merger,
    on_dict,
    on_list,
    once,
    pairer,
    picker,
    popper,
    reader,
    remover,
    summer,
    swapper,
    together,
    total,
)
from .explorer import AWAY, IN_FLIGHT, Explorer, Scenario, Violation
from .machine import Machine
from .pools import on_pool, worker
from .programs import (
    adder,
    counter,
    locker,
    maker,
    marker,
    on_barrier,
    on_cond,
    on_event,
    on_mem,
    on_sem,
    party,
    setter,
    taker,
    watcher,
)
from .queues import HERE, THERE, getter, joiner, on_pipe, on_queue, putter

pytestmark = pytest.mark.slow


class Plant(NamedTuple):
    """In ``script`` the one occurrence of ``line`` becomes ``instead``."""

    script: str
    line: str
    scenario: Scenario
    finds: str
    instead: str = ""


LOCKS = on_sem(*[locker(timeout=1.0)] * 2)
HASTY = on_sem(locker(rounds=2), locker(block=False))
SEMS = on_sem(*[locker("sem", most=9, timeout=1.0)] * 2, kind="sem", most=9)
THREE_SEMS = on_sem(
    *[locker("sem", most=9)] * 3, kind="sem", most=9, faults=frozenset({"lost", "crash after"})
)
STORE = on_cond(taker(), maker())
ABSENT = on_cond(taker(), taker(), maker(), faults=AWAY)
TWO_TAKERS = on_cond(taker(), taker(), maker(), faults=frozenset({"crash"}))
EVENT = on_event(watcher(), setter("set", "clear"))
BARRIER = on_barrier(*[party(rounds=2, timeout=1.0)] * 2, parties=2)
ACTION = on_barrier(*[party(2, action=True, timeout=1.0)] * 2, parties=2)
ONE_EACH = on_queue(putter("a1"), getter())
TWO_GET = on_queue(putter("a1", "a2"), getter(), getter())
BOUND = on_queue(putter("a1", "a2"), getter(2), bound=1)
TWO_PUT = on_queue(putter("a1", "a2"), putter("b1"), getter(3), bound=1, budget=0)
HURRIED = on_queue(
    putter("a1"), getter(timeout=1.0), faults=frozenset({"timeout", "copy"}), budget=2
)
SOME = on_queue(getter(2, want=3, use=1), first=("z1", "z2", "z3"), budget=2)
IN_FLIGHT_ONLY = on_queue(putter("a1"), getter(), getter(), faults=IN_FLIGHT)
TASKS = on_queue(putter("a1", "a2"), getter(2, task=True), joiner(), joinable=True, bound=1)
PIPE = on_pipe(putter("a1", "a2", to=THERE, closes=HERE), getter(of=THERE, closes=THERE))
ADDS = on_dict(summer(2), summer(), check=total(DICT))
SWAPS = on_dict(swapper(), swapper(), check=total(DICT))
TAKES = on_dict(
    picker(times=2), picker(), first={"sa": "s1", "sb": "s2"}, check=once(DICT, "s1", "s2")
)
PAIR = {"sa": "s1", "sb": "s1"}
READS = on_dict(reader(), pairer("s2", "s3"), first=PAIR, check=together)
MERGES = on_dict(merger(), reader(), first=PAIR, laid={"A.0": "s2"}, check=together)
CLEARS = on_dict(
    reader(), pairer("s2", how="clear"), pairer("s3"), first=PAIR, check=together, budget=0
)
LARGE_ONES = on_dict(reader(), enterer("sa", "s2"), first={"sa": LARGE + "one"})
REMOVES = on_list(
    remover("s2"), popper(), first=("s1", "s2", "s3"), check=once(LIST, "s1", "s2", "s3")
)
LARGE_POPS = on_list(reader(AS_LIST), popper(), first=(LARGE + "one", LARGE + "two"))
COUNTERS = on_mem(*[counter()] * 2)
TWICE = on_mem(*[counter(rounds=2, how="along")] * 2)
KEEPERS = on_mem(*[counter(how="keep")] * 2)
PAIRS = on_mem(*[counter(regions=2)] * 2, regions=2)
STAGES = on_mem(*[counter(how="stage")] * 2)
ADDERS = on_mem(adder(), counter(), faults=frozenset({"lost", "copy"}))
MARKERS = on_mem(marker(2), counter())

TWO_TASKS = on_pool(worker(), worker(), tasks=(("a", "b"),))
ONE_WORKER = on_pool(worker(timeout=1.0), tasks=(("a",), ("b",)))
BUSY = on_pool(worker(want=3, busy="b"), tasks=(("a", "b", "c"),))
MORTAL = on_pool(
    worker(), worker(), tasks=(("a",),), program=False, faults=frozenset({"crash", "declare"})
)
CRASHES = on_pool(worker(), worker(), tasks=(("a",),), faults=frozenset({"crash"}))
ONCE = on_pool(
    worker(), worker(), tasks=(("a",),), program=False, retries=0, faults=frozenset({"crash"})
)
UNREAD = on_pool(worker(), worker(), tasks=(("a",),), program=False, faults=IN_FLIGHT)

PLANTS = {
    "release does not look whether it was asked before": Plant(
        "sem/release", "if not new then return replayed(last, seq)[1] end", LOCKS, "too many times"
    ),
    "acquire queues again whom it had queued": Plant(
        "sem/acquire",
        "if place_of(waiters, ticket, block ~= '2') then",
        on_sem(*[locker()] * 3),
        "FIFO",
        "if false then",
    ),
    "acquire does not see that it was granted": Plant(
        "sem/acquire",
        "if owner == ticket then return {'ACQUIRED', fence, news(state, fence)} end",
        LOCKS,
        "owns the lock",
    ),
    "only the hint says that the last holder died": Plant(
        "sem/acquire",
        "if owner == ticket then return {'ACQUIRED', fence, news(state, fence)} end",
        on_sem(*[locker()] * 3),
        "was not told",
        "if owner == ticket then return {'ACQUIRED', fence} end",
    ),
    "a wait that timed out is not told that the last holder died": Plant(
        "cond/expire",
        "reply = {why, 'ACQUIRED', fence, news(lock, fence)}",
        on_cond(taker(timeout=1.0), maker(), faults=frozenset({"crash"})),
        "was not told",
        "reply = {why, 'ACQUIRED', fence}",
    ),
    "WOULD_BLOCK is not written down": Plant(
        "sem/acquire",
        "redis.call('HSET', state, mine, record(seq, {'WOULD_BLOCK'}))",
        HASTY,
        "stuck|at the end",
    ),
    "an acknowledged grant is not struck off": Plant(
        "sem/acquire", "redis.call('HDEL', state, 'g:' .. ticket)", SEMS, "conservation"
    ),
    "a time-out does not leave the line": Plant(
        "sem/cancel",
        "local left = redis.call('LREM', waiters, 1, ticket) +",
        LOCKS,
        "stuck|at the end",
        "local left =",
    ),
    "CANCELLED is not written down": Plant(
        "sem/cancel",
        "redis.call('HSET', state, mine, record(seq, {'CANCELLED'}))",
        on_sem(*[locker(timeout=1.0)] * 2, budget=2),
        "stuck|at the end",
    ),
    "handing over keeps the fence": Plant(
        "sem/release",
        "local next_fence = fence + 1",
        LOCKS,
        "fence",
        "local next_fence = fence + 0",
    ),
    "the deposed is not remembered": Plant(
        "sem/bury",
        "redis.call('HSET', state, 'x:' .. process_of(owner), fence)",
        on_sem(*[locker()] * 3),
        "mutual exclusion|too many times",
    ),
    "a dead waiter keeps its grant": Plant(
        "sem/bury",
        "if string.sub(field, 1, 2) == 'g:' and process_of(string.sub(field, 3)) == process then",
        THREE_SEMS,
        "stuck|at the end",
        "if false then",
    ),
    "waiting in a condition keeps the lock": Plant(
        "cond/wait",
        "give_up(lock, line, 'lock', 0, s[3], mine,",
        STORE,
        "stuck",
        "redis.call('HSET', lock, mine,",
    ),
    "a notified waiter that died keeps the wake-up": Plant(
        "sem/bury", "pass_on(state, waiters, owner)", TWO_TAKERS, "stuck"
    ),
    "who leaves keeps its place in line": Plant(
        "cond/leave", "if struck_off(line) then", ABSENT, "stuck|at the end", "if false then"
    ),
    "who leaves keeps the wake-up": Plant(
        "cond/leave",
        "elseif owner == ticket then\n  pass_on(lock, line, ticket)",
        ABSENT,
        "stuck",
        "elseif owner == ticket then",
    ),
    "who leaves keeps the lock": Plant(
        "cond/leave",
        "if not hand_over(lock, line, true, died) then",
        ABSENT,
        "stuck|at the end",
        "if nil then",
    ),
    "who leaves goes on waiting": Plant(
        "cond/leave",
        "if struck_off(waiters) then return {'LEFT'} end",
        ABSENT,
        "stuck|at the end|notified",
        "",
    ),
    "who left may release what is somebody else's": Plant(
        "cond/leave",
        "redis.call('HSET', lock, 'x:' .. process_of(client), fence)",
        ABSENT,
        "mutual exclusion|too many times",
    ),
    "a copy of the wait is carried out after who sent it left (I6)": Plant(
        "cond/leave",
        "redis.call('HSET', lock, mine, record(seq, {'LEFT'}))",
        ABSENT,
        "too many times",
    ),
    "wait is carried out twice": Plant(
        "cond/wait",
        "if again then",
        STORE,
        "I7|notified|stuck|NOT_OWNER|recursive",
        "if false then",
    ),
    "the last waiter is notified first": Plant(
        "cond/notify",
        "redis.call('LPOP', waiters)",
        TWO_TAKERS,
        "FIFO",
        "redis.call('RPOP', waiters)",
    ),
    "set wakes nobody": Plant(
        "event/set",
        "local id = redis.call('XADD', stream, 'MAXLEN', 1, '*', 'set', 1)",
        EVENT,
        "I8",
        "local id = '5-5'",
    ),
    "set does not look whether it was asked before": Plant(
        "event/set", "if again then return again end", EVENT, "the flag is 1 after clear"
    ),
    "a party that gives up does not see that it was let through": Plant(
        "barrier/expire",
        "if outcome and (outcome[1] ~= 'ACT' or force == '0') then return outcome end",
        BARRIER,
        "round",
    ),
    "a barrier is broken under its waiters": Plant(
        "barrier/expire", "redis.call('DEL', waiters)", BARRIER, "I10"
    ),
    "open lets through whoever comes": Plant(
        "barrier/open",
        "if s[3] == 'action' and s[4] == ticket then",
        ACTION,
        "round|action|index|indices|I9",
        "if true then",
    ),
    "a put does not look whether it was asked before": Plant(
        "queue/put",
        "if (not last or last < seq) and more == ''",
        ONE_EACH,
        "I13|I11|doubled",
        "if more == ''",
    ),
    "a bound is exceeded by one": Plant(
        "queue/put",
        "if (max > 0 and length >= max) or (room > 0 and held >= room) then",
        BOUND,
        "bound",
        "if (max > 0 and length > max) or (room > 0 and held >= room) then",
    ),
    "who asks for a message last is served first": Plant(
        "queue/put",
        "redis.call('LPOP', waiters)",
        TWO_GET,
        "FIFO",
        "redis.call('RPOP', waiters)",
    ),
    "a get that is asked again has forgotten what it took": Plant(
        "queue/get",
        "return answer({'ITEMS', unpack(elements_of(letter, rest))})",
        ONE_EACH,
        "conservation",
        "local _ = rest",
    ),
    "a get stands in line again at its next look": Plant(
        "queue/get",
        "if (place or redis.call('LPOS', waiters, ticket)) and",
        TWO_GET,
        "FIFO",
        "if false and",
    ),
    "who parked last is put first": Plant(
        "queue/get",
        "redis.call('LPOP', parked)",
        TWO_PUT,
        "FIFO",
        "redis.call('RPOP', parked)",
    ),
    "room is made and nobody is let in": Plant(
        "queue/get",
        "while (max > 0 and length < max) or (room > 0 and held < room) do",
        BOUND,
        "I12",
        "while false do",
    ),
    "a parked task is not counted": Plant(
        "queue/get", "redis.call('HINCRBY', state, 'todo', 1)", TASKS, "todo"
    ),
    "a pipe that nobody reads any more is taken for lost": Plant(
        "queue/put",
        "return redis.call('EXISTS', peer) == 1 and {'BROKEN'} or {'GONE'}",
        PIPE,
        "ObjectExpired",
        "return {'GONE'}",
    ),
    "a get that is given up stays in line": Plant(
        "queue/cancel", "redis.call('LREM', waiters, 1, ticket)", HURRIED, "at the end|stuck"
    ),
    "that a get was given up is not written down": Plant(
        "queue/cancel",
        "redis.call('HSET', state, mine, seq .. 'C')",
        HURRIED,
        "at the end|stuck",
    ),
    "a dead process's messages go with it": Plant(
        "queue/bury",
        "give_back(state, waiters, items, elements, used + 1)",
        TWO_GET,
        "conservation",
    ),
    "a dead process's last request takes a message": Plant(
        "queue/bury",
        "redis.call('HSET', state, 't:' .. process, over)",
        IN_FLIGHT_ONLY,
        "in flight at",
        "local _ = over",
    ),
    "a dead process's messages all come back": Plant(
        "queue/bury",
        "return known[1] == seq and known[2] or count",
        TWO_GET,
        "I13",
        "return 0",
    ),
    "of one that is taken for dead they come back, too": Plant(
        "queue/bury",
        "if not seen then return count end",
        TWO_GET,
        "I13",
        "if not seen then return 0 end",
    ),
    "what is given back is turned round": Plant(
        "queue/settle",
        "for i = #elements, from, -1 do",
        SOME,
        "FIFO",
        "for i = from, #elements do",
    ),
    "what was used is given back": Plant(
        "queue/settle",
        "give_back(state, waiters, items, elements, used + 1)",
        SOME,
        "I13",
        "give_back(state, waiters, items, elements, used)",
    ),
    "an add is carried out twice": Plant(
        "dict/add", "if again then return nil, again end", ADDS, "the number is"
    ),
    "an entry is taken twice": Plant(
        "dict/take", "if again then return nil, again end", TAKES, "are there and taken"
    ),
    "an entry stays in the order": Plant(
        "dict/take", "redis.call('ZREM', c.order, key)", TAKES, "I19"
    ),
    "a swap does not compare": Plant(
        "dict/swap", "if (found or '') == expected then", SWAPS, "the number is", "if true then"
    ),
    "readers do not hear of changes": Plant(
        "dict/update", "redis.call('RPUSH', c.state .. ':m:' .. reader, key)", READS, "I20"
    ),
    "a late copy makes a reader begin again": Plant(
        "dict/read", "if last and last >= seq then return false end", READS, "I20"
    ),
    "a batch can be read while it is entered": Plant(
        "dict/enter",
        "if page == redis.call('HLEN', batch .. ':0') then",
        MERGES,
        "I20",
        "if page then",
    ),
    "entries stay where they are while a batch is entered": Plant(
        "dict/merge", "redis.call('RENAME', c.entries, batch .. ':1')", MERGES, "I20"
    ),
    "readers do not hear of a batch": Plant(
        "dict/enter", "redis.call('RPUSH', c.state .. ':m:' .. reader, key)", MERGES, "I20"
    ),
    "a cleared dict is read on": Plant("dict/clear", "c.readers = {}", CLEARS, "I20"),
    "what a reader has goes": Plant(
        "dict/set", "if next(c.readers) then", LARGE_ONES, "whose keys are gone", "if false then"
    ),
    "what was kept for a reader stays": Plant(
        "store/close",
        "if not next(c.readers) then empty_trash(c) end",
        LARGE_ONES,
        "there is trash",
    ),
    "a list that was changed is spliced": Plant(
        "list/splice",
        "if version ~= '' and version ~= s[3] then",
        REMOVES,
        "are there and taken",
        "if false then",
    ),
    "what was taken goes although somebody reads": Plant(
        "list/take",
        "local pins, pieces = parts(element)",
        LARGE_POPS,
        "whose keys are gone",
        "local pins, pieces, name = parts(element) discard(c, pieces, name)",
    ),
    "tasks are added twice": Plant(
        "pool/add",
        "if letter then return {letter == 'P' and 'PUT' or 'STALE'} end",
        ONE_WORKER,
        "I17|I18",
    ),
    "tasks lie there although workers are idle": Plant(
        "pool/add",
        "deal(state, waiters, tasks)\nreturn {'PUT'}",
        TWO_TASKS,
        "I16",
        "return {'PUT'}",
    ),
    "a step that is asked again takes more": Plant(
        "pool/step", "if letter == 'H' then", ONE_WORKER, "conservation", "if false then"
    ),
    "a result that is brought again counts again": Plant(
        "pool/report",
        "if hand and place > hand[1] and hand[place + 1] then",
        BUSY,
        "I17|I18|conservation",
        "if hand and hand[place + 1] then",
    ),
    "results of the dead are accepted": Plant(
        "pool/bury", "redis.call('HSET', state, field, over)", MORTAL, "I17|conservation|ran"
    ),
    "a dead worker's last request takes tasks": Plant(
        "pool/bury", "redis.call('HSET', state, 't:' .. process, over)", UNREAD, "in hand of"
    ),
    "what a dead worker had begun is not counted": Plant(
        "pool/bury",
        "return known and known[1] == seq and known[2] or 0",
        ONCE,
        "ran 2 times",
        "return 0",
    ),
    "a task is lost with its first worker": Plant(
        "pool/bury",
        "if deaths > retries then",
        CRASHES,
        "although only",
        "if deaths >= retries then",
    ),
    "a dead worker's tasks go with it": Plant(
        "pool/bury",
        "if task then redis.call('LPUSH', tasks, task) end",
        CRASHES,
        "conservation|stuck",
    ),
    "results that were not received go": Plant(
        "pool/take",
        "redis.call('LRANGE', results, 0, want - 1)",
        ONE_WORKER,
        "conservation|stuck",
        "redis.call('LPOP', results, want) or {}",
    ),
    "a worker that has left is given tasks": Plant(
        "pool/cancel", "redis.call('LREM', waiters, 1, client .. ':' .. seq)", ONE_WORKER, "I1|hand"
    ),
    "a release with data does not look whether it was asked before (I3)": Plant(
        "mem/release",
        "local new = not last or last < seq",
        COUNTERS,
        "LockLost",
        "local new = true",
    ),
    "what is written back before the release is written twice (I3)": Plant(
        "mem/release",
        "local new = not last or last < seq",
        on_mem(*[counter(how="keep")] * 2, faults=frozenset({"lost"})),
        "I14",
        "local new = true",
    ),
    "a release with data leaves the line waiting (I1)": Plant(
        "mem/release", "local place = redis.call('LPOP', waiters)", COUNTERS, "I1", "local place"
    ),
    "who lost the lock is told that it released it (I5)": Plant(
        "mem/release", "return 'LOST'", COUNTERS, "the number is", "return 'RELEASED'"
    ),
    "a release with data leaves the version (I14)": Plant(
        "mem/release", "redis.call('HSET', region, 'version', r[3] + 1)", COUNTERS, "I14"
    ),
    "and one of two regions does (I14)": Plant(
        "mem/release",
        "redis.call('HSET', keys[2 * i + 1], 'version', versions[i] + 1)",
        PAIRS,
        "I14",
    ),
    "one that stored its content beside does (I14)": Plant(
        "mem/release",
        "redis.call('HSET', keys[2 * i + 1], 'version', versions[i] + 1)",
        STAGES,
        "I14",
    ),
    "who lost the lock writes nevertheless (I15)": Plant(
        "mem/release",
        "local ours = s[2] ~= '' and s[3] == fence",
        COUNTERS,
        "I15",
        "local ours = s[2] ~= ''",
    ),
    "a release writes one of two regions": Plant(
        "mem/release",
        "for i = 1, answer == 'VANISHED' and 0 or #changes do",
        PAIRS,
        "half a release",
        "for i = 1, 1 do",
    ),
    "what writes back gives the lock up": Plant(
        "mem/release", "if keep then", KEEPERS, "mutual exclusion", "if false then"
    ),
    "a copy is believed whatever the version is": Plant(
        "mem/fetch", "if s[2] == version then", TWICE, "lost update", "if version ~= '0' then"
    ),
    "a number is added twice (I3)": Plant(
        "mem/update", "if last and last >= seq then", ADDERS, "the number is", "if false then"
    ),
    "a number is changed under the eyes of who has the lock (I15)": Plant(
        "mem/update", "if lock[2] == '0' then", ADDERS, "I15", "if false then"
    ),
    "that the lock was taken is forgotten, and a late copy adds (I3)": Plant(
        "mem/update",
        "redis.call('HSET', state, mine, seq .. '\\31BUSY')",
        ADDERS,
        "the number is",
    ),
    "a number that is added leaves the version (I14)": Plant(
        "mem/update", "redis.call('HSET', state, 'version', s[3] + 1)", ADDERS, "I14"
    ),
    "a late copy overwrites (I3)": Plant(
        "mem/write", "if last and last >= seq then", MARKERS, "I14", "if false then"
    ),
    "who has the lock is overwritten (I15)": Plant(
        "mem/write", "if lock[2] == '0' then", MARKERS, "I15", "if false then"
    ),
    "that the lock was taken is forgotten, and a late copy writes (I3)": Plant(
        "mem/write",
        "redis.call('HSET', state, mine, seq .. '\\31BUSY')",
        MARKERS,
        "I14",
    ),
    "what is overwritten has its old version (I14)": Plant(
        "mem/write", "'version', s[3] + 1, mine", MARKERS, "I14", "mine"
    ),
    "a task is done twice": Plant(
        "queue/done", "if again then return again end", TASKS, "too many times"
    ),
}


def planted(plant: Plant) -> dict[str, str]:
    source = script(plant.script).source
    assert plant.line in source, f"{plant.script} has no such line any more: {plant.line}"
    return {plant.script: source.replace(plant.line, plant.instead)}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name, server):
    plant = PLANTS[name]
    machine = Machine(server.settings.connection(), planted(plant))
    with pytest.raises(Violation, match=plant.finds) as found:
        Explorer(machine, plant.scenario).run()
    print(found.value)


HINTS = {
    "lock": ("sem/release", "redis.call('RPUSH', mailbox,", on_sem(*[locker()] * 3)),
    "lock, with data": ("mem/release", "redis.call('RPUSH', mailbox,", on_mem(*[counter()] * 3)),
    "condition": ("sem/release", "redis.call('RPUSH', mailbox,", STORE),
    "barrier": ("barrier/arrive", "redis.call('RPUSH', mailbox,", BARRIER),
    "get": ("queue/put", "redis.call('RPUSH', mailbox,", TWO_GET),
    "put": ("queue/get", "redis.call('RPUSH', mailbox,", BOUND),
    "tasks": ("queue/done", "ring(state, stream, s[3])", TASKS),
    "idle worker": ("pool/add", "post(state, ticket, {'TASKS', task})", BUSY),
    "result": ("pool/step", "post(state, taker, {'READY'})", BUSY),
    "end of a pipe": ("pipe/unref", "redis.call('RPUSH', mailbox,", PIPE),
}


@pytest.mark.parametrize("name", HINTS)
def test_without_hints_everything_still_works(name, server):
    """Hints only save time: to lose all of them costs latency alone."""
    which, start, scenario = HINTS[name]
    lines = script(which).source.splitlines()
    kept = [line for line in lines if not line.strip().startswith(start)]
    assert len(kept) < len(lines)
    machine = Machine(server.settings.connection(), {which: "\n".join(kept) + "\n"})
    Explorer(machine, scenario).run()
