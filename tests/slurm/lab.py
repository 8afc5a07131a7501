"""A real Slurm on this machine: munged, slurmctld, slurmd, two GPUs that are none.

For tests of what a cluster does to a run. State lives in one temporary folder, ports are free
ones, and nothing stays behind: `stop` cancels the jobs, ends the daemons by their pids and removes
the folder and the link. One thing cannot be in that folder: the executor plugin of Snakemake
takes `SLURM_CONF` from the environment of a job, so the configuration must be where Slurm's
programs look for it, `/etc/slurm/slurm.conf`, a link to ours. Hence one lab a machine at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import psutil

LINK = Path("/etc/slurm/slurm.conf")
LOCK = Path(tempfile.gettempdir()) / "xpeft-slurm-lab.lock"
PREFIX = "xpeft-slurm-lab-"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
GPUS = 2
CPUS = 8
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED")

CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
MailProg=/bin/true
MpiDefault=none
# No cgroups: containers seldom allow them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
# No accounting database, as on many small clusters; ended jobs stay listed for squeue.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
# Memory limits by looking at the processes, as there are no cgroups.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
EnforcePartLimits=ALL
DefMemPerCPU=256
KillWait=30
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=15
# Jobs of the partition `low` make way for those of `gpu`, and come again.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
# More cores than there are, so that the size of this machine does not matter.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=65536 Gres=gpu:h200:{gpus} State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=10 State=UP
PartitionName=low Nodes={host} MaxTime=INFINITE DefaultTime=60 PriorityTier=1 State=UP
"""


class LabError(Exception):
    """Slurm cannot be started here; the message says why."""


def why_not() -> str | None:
    """Why no lab can be started on this machine; None where one can."""
    missing = [name for name in PROGRAMS if find(name) is None]
    if missing:
        return f"found no {', '.join(missing)}; apt-get install munge slurmctld slurmd slurm-client"
    if not os.access(LINK.parent if LINK.parent.exists() else LINK.parent.parent, os.W_OK):
        return f"{LINK.parent} is not writable: run as root, or make it writable"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return f"the name of this machine, {socket.gethostname()}, has no address: see /etc/hosts"
    return None


def find(program: str) -> str | None:
    """The path of a program; daemons may be outside a user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Lab:
    """The cluster. `with Lab() as lab: ...` starts and stops it."""

    def __init__(self) -> None:
        self.host = socket.gethostname().partition(".")[0]
        self.state = Path()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------ start and stop

    def start(self) -> None:
        """Start all daemons and wait until the node takes jobs.

        Raises:
            LabError: there is another lab, or another Slurm, or a daemon ended.
        """
        if reason := why_not():
            raise LabError(reason)
        with contextlib.ExitStack() as opened:
            try:
                self._lock = opened.enter_context(LOCK.open("a+"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock = None
                raise LabError(f"another test run has a Slurm up ({LOCK} is locked)") from None
            opened.pop_all()  # it stays open, and locked, till the end
        try:
            remove_leftovers()
            self._configure()
            self._start_munge()
            self.start_controller()
            self.start_node()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the jobs and the daemons, and remove every trace."""
        with contextlib.suppress(LabError, subprocess.SubprocessError, OSError):
            self.end_jobs()
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)
        if self.state.name.startswith(PREFIX):
            end_processes_of(self.state)
            unlink_if_ours(self.state)
            shutil.rmtree(self.state, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _configure(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix=PREFIX))
        for name in ("controller", "node"):
            (self.state / name).mkdir()
        controller_port, node_port = free_ports(2)
        (self.state / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=self.host,
                user=getpass.getuser(),
                state=self.state,
                controller_port=controller_port,
                node_port=node_port,
                cpus=CPUS,
                gpus=GPUS,
            )
        )
        for number in range(GPUS):
            # slurmd wants devices, and takes the number of a GPU from its name.
            (self.state / f"nvidia{number}").symlink_to("/dev/null")
        (self.state / "gres.conf").write_text(
            "AutoDetect=off\n"
            f"NodeName={self.host} Name=gpu Type=h200 File={self.state}/nvidia[0-{GPUS - 1}]\n"
        )
        LINK.parent.mkdir(parents=True, exist_ok=True)
        LINK.symlink_to(self.state / "slurm.conf")

    def _start_munge(self) -> None:
        key = self.state / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._spawn(
            "munged",
            "--foreground",
            # The folder of the socket is ours alone, which munged would rather have open to all.
            "--force",
            f"--key-file={key}",
            f"--socket={self.state}/munge.socket",
            f"--pid-file={self.state}/munged.pid",
            f"--log-file={self.state}/munged.log",
            f"--seed-file={self.state}/munged.seed",
        )
        wait_for(self._munge_answers, "munged", 30)

    def _munge_answers(self) -> bool:
        self.require("munged")
        return run("munge", "-S", f"{self.state}/munge.socket", "-n").returncode == 0

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._spawn("slurmctld", "-D", "-f", f"{self.state}/slurm.conf")
        wait_for(self._controller_answers, "slurmctld", 60)

    def _controller_answers(self) -> bool:
        self.require("slurmctld")
        return run("scontrol", "ping").stdout.find("is UP") >= 0

    def start_node(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._spawn("slurmd", "-D", "-N", self.host, "-f", f"{self.state}/slurm.conf")
        wait_for(self._node_is_up, "slurmd", 60)

    def _node_is_up(self) -> bool:
        self.require("slurmd")
        state = run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%T").stdout.strip()
        return state in ("idle", "mixed", "allocated")

    # ------------------------------------------------------------------------- faults

    def kill_controller(self) -> None:
        """`kill -9` of slurmctld."""
        self._end("slurmctld", signal.SIGKILL)

    def kill_node(self) -> None:
        """`kill -9` of slurmd; the jobs it started go on."""
        self._end("slurmd", signal.SIGKILL)

    def lose_node(self) -> None:
        """As when its power fails: slurmd and all that it started are gone."""
        self.kill_node()
        kept = {daemon.pid for daemon in self.daemons.values()}
        for process in with_children(processes_of(self.state)):
            with contextlib.suppress(psutil.Error):
                if process.pid not in kept and process.name() != "slurmctld":  # and its helper
                    process.kill()

    # --------------------------------------------------------------------------- jobs

    def jobs(self, rule: str = "", folder: Path | None = None) -> dict[str, str]:
        """State of each job by its id, those that ended too; of a rule, of a folder, or of all."""
        found = {}
        for line in answer("squeue", "-h", "--states=all", "-o", "%i|%T|%Z|%k").splitlines():
            number, state, where, comment = line.split("|", 3)
            if rule and comment != f"rule_{rule}" and not comment.startswith(f"rule_{rule}_"):
                continue
            if folder is None or Path(where) == folder:
                found[number] = state
        return found

    def live_jobs(self, rule: str = "", folder: Path | None = None) -> dict[str, str]:
        """Those of `jobs` that have not ended."""
        found = self.jobs(rule, folder)
        return {job: state for job, state in found.items() if state not in ENDED}

    def detail(self, job: str) -> dict[str, str]:
        """What scontrol knows of a job."""
        words = answer("scontrol", "-o", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def cancel(self, job: str) -> None:
        """`scancel` of a job."""
        answer("scancel", job)

    def end_jobs(self) -> None:
        """End all jobs, at once and without mercy."""
        live = self.live_jobs()
        if not live:
            return
        answer("scancel", "--signal=KILL", *live)
        answer("scancel", *live)
        wait_for(lambda: not self.live_jobs(), "the end of all jobs", 60)

    # ------------------------------------------------------------------------ daemons

    def require(self, name: str) -> None:
        """Raise a `LabError` with the end of its log if a daemon has ended."""
        status = self.daemons[name].poll()
        if status is not None:
            raise LabError(f"{name} ended with {status}:\n{self.log_of(name)}")

    def log_of(self, name: str) -> str:
        """The last lines that a daemon wrote."""
        texts = []
        for suffix in ("log", "out"):
            with contextlib.suppress(OSError):
                texts += (self.state / f"{name}.{suffix}").read_text().splitlines()[-20:]
        return "\n".join(texts)

    def _spawn(self, name: str, *arguments: str) -> None:
        program = find(name)
        assert program is not None
        with (self.state / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "SLURM_CONF": f"{self.state}/slurm.conf"},
                start_new_session=True,  # an interrupt at the terminal is for the tests
            )

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self.daemons.pop(name, None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---------------------------------------------------------------------------------- helpers


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Slurm."""
    path = find(program)
    assert path is not None
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60)


def answer(program: str, *arguments: str) -> str:
    """The output of a program of Slurm; again if the controller is busy."""
    for _ in range(5):
        done = run(program, *arguments)
        if done.returncode == 0:
            return done.stdout
        time.sleep(1)
    raise LabError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")


def wait_for(happens: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait until `happens()`; no test depends on how long it takes."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def remove_leftovers() -> None:
    """Remove what a lab left that was killed; an `/etc/slurm/slurm.conf` of others is refused."""
    if not LINK.is_symlink():
        if LINK.exists():
            raise LabError(f"{LINK} exists: this machine has a Slurm of its own")
        return
    state = Path(os.readlink(LINK)).parent
    if not state.name.startswith(PREFIX):
        raise LabError(f"{LINK} leads to {state}: this machine has another Slurm")
    end_processes_of(state)
    unlink_if_ours(state)
    shutil.rmtree(state, ignore_errors=True)


def end_processes_of(state: Path) -> None:
    """Kill what still runs with the configuration of a lab."""
    ours = with_children(processes_of(state))
    for process in ours:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(ours, timeout=10)


def processes_of(state: Path) -> Iterator[psutil.Process]:
    """The daemons of a lab, and what they started: their environment has its configuration.

    Without cgroups Slurm loses sight of a process whose parent ended before it.
    """
    words = f"SLURM_CONF={state}/slurm.conf".encode(), f"{state}/munge.".encode()
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{process.pid}")
            # As it is: psutil stops where slurmstepd has written its title over the words.
            text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if any(word in text for word in words):
                yield process


def with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """These processes and all below them; srun, for one, has lost the mark."""
    found = {process.pid: process for process in processes}
    for process in list(found.values()):
        with contextlib.suppress(psutil.Error):
            found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def unlink_if_ours(state: Path) -> None:
    """Remove the link if it leads into `state`."""
    if LINK.is_symlink() and Path(os.readlink(LINK)).parent == state:
        LINK.unlink()
