"""Which of CPython's tests are not run, and why.

A reason is a fact about what runs where, or that the test's subject is not there
yet; it is never that the test fails. ``test_exclusions.py`` holds this
list against the interpreter: each entry exists there, and every test that is not
listed runs.

The tests of ``multiprocessing.dummy`` (the ``WithThreads`` variants) are not meant: they test
another package. ``/manager`` stands behind a class that is run with a manager's objects.
"""

from __future__ import annotations

import sys

# -- not there yet --

SHARED = "its subject is shared_memory, which is not implemented yet"

# -- facts --

FORK = "it needs start method 'fork': a function does not have the parent's memory"
FORKSERVER = "it is about the forkserver process, which we do not have"
POSIX = "it is about POSIX semaphores and shared memory of one machine and their tracker"
OTHER = "it runs a script that imports multiprocessing, not us (test_process.py has ours)"
FLAGS = "a function's interpreter is started by Lithops, which passes no flags on"
FD = "it needs a file descriptor, which a pipe between hosts does not have"
MODULE = "the module that it writes imports multiprocessing, not us (test_queues.py has ours)"
LARGE = (
    "its send is to block, but Redis takes one message of any size (test_connection.py has ours)"
)
READER = "it looks at the pipe in CPython's queue; there is none in ours"
WINDOWS = "it is about Windows, where we do not run"
LAZY = "workers of a Pool start when there is work: with none, no initializer runs"
NOT_MANAGED = "it says itself that it does not apply to a manager's objects"
NAMES = "it has the name of CPython's package built in (test_context.py has ours)"

#: Class, or class and test -> reason. A class stands for all its tests.
EXCLUDED = {
    "TestInternalDecorators": FORK,
    "_TestProcess.test_forkserver_sigint": FORKSERVER,
    "_TestProcess.test_forkserver_sigkill": FORKSERVER,
    "_TestQueue.test_no_import_lock_contention": MODULE,
    "_TestPoolWorkerLifetime.test_worker_finalization_via_atexit_handler_of_multiprocessing": OTHER,
    "_TestQueue/manager.test_no_import_lock_contention": MODULE,
    "_TestQueue/manager.test_queue_feeder_donot_stop_onexc": NOT_MANAGED,
    "_TestQueue/manager.test_queue_feeder_on_queue_feeder_error": NOT_MANAGED,
    "_TestSemaphore/manager.test_timeout": NOT_MANAGED,
    "_TestPool/manager.test_enter": NOT_MANAGED,
    "_TestPool/manager.test_imap_handle_iterable_exception": NOT_MANAGED,
    "_TestPool/manager.test_imap_unordered_handle_iterable_exception": NOT_MANAGED,
    "_TestPool/manager.test_map_handle_iterable_exception": NOT_MANAGED,
    "_TestPool/manager.test_resource_warning": NOT_MANAGED,
    "TestInitializers.test_pool_initializer": LAZY,
    "_TestBarrier/manager.test_thousand": NOT_MANAGED,
    "_TestConnection.test_connection": FD,
    "_TestConnection.test_fd_transfer": FD,
    "_TestConnection.test_large_fd_transfer": FD,
    "_TestConnection.test_missing_fd_transfer": FD,
    "_TestHeap": SHARED,
    "_TestSharedMemory": SHARED,
    "_TestImportStar": NAMES,
    "TestInvalidHandle": FD,
    "TestInvalidFamily.test_invalid_family_win32": WINDOWS,
    "TestFlags": FLAGS,
    "TestNoForkBomb": OTHER,
    "TestIgnoreEINTR.test_ignore": LARGE,
    "TestStartMethod.test_get_all": FORK,
    "TestStartMethod.test_preload_resources": FORKSERVER,
    "TestStartMethod.test_mixed_startmethod": FORK,
    "TestResourceTracker": POSIX,
    "TestSimpleQueue.test_closed": READER,
    "TestNamedResource": OTHER,
    "MiscTestCase.test_spawn_sys_executable_none_allows_import": OTHER,
    "MiscTestCase.test_large_pool": OTHER,
    "SemLockTests": POSIX,
}

#: Entries that older releases do not have -> the release that has it for certain.
SINCE = {
    "TestInternalDecorators": (3, 11, 7),
    "TestStartMethod.test_mixed_startmethod": (3, 11, 7),
    "MiscTestCase.test_spawn_sys_executable_none_allows_import": (3, 11, 7),
    "TestManagerExceptions": (3, 13, 0),
    "MiscTestCase.test_large_pool": (3, 13, 0),
}


def reason(case: str, test: str) -> str | None:
    """Why a test is excluded; None if it is not."""
    return EXCLUDED.get(case) or EXCLUDED.get(f"{case}.{test}")


def expected(entry: str) -> bool:
    """Must this interpreter have it?"""
    return sys.version_info[:3] >= SINCE.get(entry, (3, 10))
