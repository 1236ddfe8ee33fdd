"""Workers as jobs of a batch system, through dask-jobqueue: `--cluster slurm:cores=8,memory=16GB,queue=q`.

The scheduler runs in the driver; every job runs one single-threaded worker process per core (pricing holds
Python's lock). `--workers` is the largest number of jobs, `least` the number that is always kept (all, when
not given): a job that ends at its walltime is replaced. What is not given comes from dask-jobqueue's own
file, `~/.config/dask/jobqueue.yaml`. A job that the system refuses ends the study with the system's words.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tetrasim.errors import UserError, nearest

_CLASSES = {"slurm": "SLURMCluster", "lsf": "LSFCluster", "pbs": "PBSCluster"}
_NUMBERS = ("cores", "processes", "least")
_TEXTS = (
    "queue",
    "account",
    "project",
    "walltime",
    "memory",
    "interface",
    "log_directory",
    "local_directory",
    "directive",
)
_WHERE = "--cluster"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What `--cluster SYSTEM:…` asks for: dask-jobqueue's keywords, and jobs to keep (-1: all)."""

    system: str
    keywords: tuple[tuple[str, str | int | tuple[str, ...]], ...]
    least: int = -1


def is_batch(address: str) -> bool:
    """Whether `address` names a batch system rather than a scheduler."""
    return address.partition(":")[0] in _CLASSES


def parse_batch(address: str) -> BatchRequest:
    """`slurm:cores=4,memory=8GB,queue=short,least=0`; `directive=--qos=low` may be given several times.

    Raises:
        UserError: an unknown option, with the nearest, or a value that is no number.
    """
    system, _, rest = address.partition(":")
    keywords: dict[str, str | int | tuple[str, ...]] = {}
    directives: list[str] = []
    for text in filter(None, (part.strip() for part in rest.split(","))):
        name, equals, value = text.partition("=")
        if name not in (*_NUMBERS, *_TEXTS):
            raise UserError(
                f"unknown option '{name}' of {system}", where=_WHERE, hint=nearest(name, (*_NUMBERS, *_TEXTS))
            )
        if not equals or not value.isprintable() or not value:
            raise UserError(f"'{text}' is not NAME=VALUE", where=_WHERE, hint="for example cores=4")
        if name == "directive":
            directives.append(value)
        elif name not in _NUMBERS:
            keywords[name] = value
        elif not value.isdecimal() or (int(value) < 1 and name != "least"):
            raise UserError(f"{name} = '{value}' is no number of {name}", where=_WHERE, hint="a whole number")
        else:
            keywords[name] = int(value)
    least = keywords.pop("least", -1)
    if directives:
        keywords["job_extra_directives"] = tuple(directives)
    if "cores" in keywords:
        keywords.setdefault("processes", keywords["cores"])
    assert isinstance(least, int)
    return BatchRequest(system, tuple(keywords.items()), least)


class BatchJobs:
    """A dask cluster whose workers are jobs; `refusals` are what the batch system said to submissions."""

    def __init__(self, request: BatchRequest, name: str, jobs: int) -> None:
        self.jobs = jobs
        self.refusals: list[str] = []
        self._system = request.system
        self.cluster = self._start(request, name)
        least = jobs if request.least < 0 else min(request.least, jobs)
        self.cluster.adapt(minimum_jobs=least, maximum_jobs=jobs)

    def _start(self, request: BatchRequest, name: str) -> Any:
        try:
            jobqueue: Any = import_module("dask_jobqueue")
        except ImportError:
            raise UserError(
                f"'{request.system}' needs dask-jobqueue",
                where=_WHERE,
                hint="pip install 'tetrasim[cluster]'",
            ) from None
        kind: Any = getattr(jobqueue, _CLASSES[request.system])
        command = shlex.split(kind.job_cls.submit_command)[0]
        if shutil.which(command) is None:
            raise UserError(
                f"there is no '{command}' on this machine",
                where=_WHERE,
                hint=f"start the study where {request.system} jobs are submitted, or give tcp://HOST:PORT",
            )
        keywords: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in request.keywords}
        # Many studies may run on one login node: any free port for the dashboard, unless the user chose one.
        chosen = import_module("dask").config.get(f"jobqueue.{request.system}.scheduler-options", {})
        keywords["scheduler_options"] = {"dashboard_address": ":0", **(chosen or {})}
        job_name = "tetrasim-" + re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40]
        try:
            return kind(job_cls=_watched(kind.job_cls, self.refusals), job_name=job_name, **keywords)
        except (ValueError, TypeError, RuntimeError, OSError) as failure:
            raise UserError(
                f"{request.system}: {' '.join(str(failure).split())}",
                where=_WHERE,
                hint=f"for example --cluster {request.system}:cores=4,memory=8GB,queue=NAME,"
                "or write them to ~/.config/dask/jobqueue.yaml",
            ) from None

    def check(self, workers: int) -> None:
        """Give up when the system refuses jobs and no worker is left.

        Raises:
            UserError: with what the system said.
        """
        if self.refusals and not workers:
            raise UserError(
                f"{self._system} refused a job: {self.refusals[-1]}",
                where=_WHERE,
                hint="correct queue, account, walltime, cores or memory; the same command goes on",
            )

    def job_script(self) -> str:
        """The script of a job, for the user to read."""
        return str(self.cluster.job_script())

    def close(self) -> None:
        """Cancel the jobs."""
        self.cluster.close()


def _watched(job_class: Any, refusals: list[str]) -> Any:
    """`job_class`, noting what a failed submission said. Dask itself would log it and wait for ever; here the
    job counts as started and, having no number, is never cancelled."""
    process: Any = import_module("distributed.deploy.spec").ProcessInterface

    async def start(self: Any) -> None:
        try:
            await job_class.start(self)
        except (RuntimeError, OSError, ValueError) as failure:
            said = str(failure).partition("stderr:")[2] or str(failure)
            refusals.append(" ".join(said.split())[:300])
            await process.start(self)

    return type(job_class.__name__, (job_class,), {"start": start})
