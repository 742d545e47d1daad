"""When things ran: ``EXPORT_EXECUTION_DETAILS``.

Under the folder that the setting names, each process that was joined and each pool that
has ended leaves ``NAME_stats.json``, and Lithops' two plots, ``NAME_timeline.png`` and
``NAME_histogram.png``, where its plotting extra is installed. Times are seconds since the
epoch; those of a process are the Redis server's, those of a task its worker's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import config

#: What Lithops' plots read, by its names.
Stats = dict[str, Any]


class Times(NamedTuple):
    """When something was made, sent, began, ended, and when this process heard of it."""

    made: float
    sent: float
    began: float
    ended: float
    heard: float

    def stats(self, **more: object) -> Stats:
        """The same under the names of Lithops."""
        return {
            "host_job_create_tstamp": self.made,
            "host_submit_tstamp": self.sent,
            "worker_start_tstamp": self.began,
            "worker_func_start_tstamp": self.began,
            "worker_func_end_tstamp": self.ended,
            "worker_end_tstamp": self.ended,
            "worker_func_exec_time": self.ended - self.began,
            "host_status_done_tstamp": self.heard,
            "host_result_done_tstamp": self.heard,
            **more,
        }


def wanted() -> bool:
    """Are details to be written?"""
    return bool(config.get_parameter(config.EXPORT_EXECUTION_DETAILS))


def write(
    name: str, stats: Mapping[str, Stats], draw: Callable[[list[Stats], str], object]
) -> None:
    """Write what happened, by call; ``draw`` makes the plots. Problems are only told of.

    A program that has come to its end is not to fail because of a full disk.
    """
    folder = config.get_parameter(config.EXPORT_EXECUTION_DETAILS)
    if not folder or not stats:
        return
    path = os.path.join(os.path.realpath(folder), name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}_stats.json", "w") as file:
            json.dump(stats, file, indent=4)
        draw(list(stats.values()), path)
    except ImportError:
        _tell(f"plots of {name} need more: pip install 'lithops[plotting]'; statistics: {path}_*")
    except Exception as error:
        _tell(f"the execution details of {name} could not be written: {error!r}")


def _tell(what: str) -> None:
    print(f"lithops_mp: {what}", file=sys.stderr)
