"""SLURM's commands, and nothing else: text to them, records from them."""

from __future__ import annotations

import getpass
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass

from isoflop.errors import InputError, RunError

#: Seconds to wait for an answer: a busy controller takes its time.
_PATIENCE = 60
_FIELDS = "%i|%A|%T|%r|%k"

#: SLURM's words where the controller is away or too busy.
_NO_ANSWER = ("did not answer", "Unable to contact", "timed out", "Connection", "temporarily", "receive_msg")
#: And where a user may not have so many tasks.
TOO_MANY = ("SubmitJobLimit", "MaxSubmit", "MaxJobs", "job submit limit", "Job violates accounting/QOS policy")
#: A limit on jobs that are in the queue at once, and how many there are; ``N`` in its place: none.
_SUBMITTED = re.compile(r"\b(?:Max|Grp)SubmitJobs(?:PU)?=(?P<most>\d+)\((?P<now>\d+)\)")
#: States in which a task will still work, or work again.
LIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "STOPPED"}
)


@dataclass(frozen=True)
class Task:
    """A task of ours in the queue.

    Parameters
    ----------
    id
        What SLURM calls it: ``12_3``, or ``12`` where it is no array's.
    state, reason
        In SLURM's words; `reason` says why it waits.
    comment
        What it was submitted with.
    """

    id: str
    state: str
    reason: str
    comment: str

    @property
    def live(self) -> bool:
        """Whether it will still work, or work again."""
        return self.state in LIVE


def require() -> None:
    """Raise `InputError` if there is no SLURM here: before work that would be for a submission alone."""
    if shutil.which("sbatch") is None:
        raise InputError("SLURM's commands must be on the PATH, but sbatch is not found")


def queue() -> list[Task]:
    """Every task of this user that the controller knows of: one call.

    Raises
    ------
    InputError
        If there is no SLURM here.
    RunError
        If the controller does not answer.
    """
    lines = _call("squeue", "--me", "--noheader", "--array", "--states=all", f"--format={_FIELDS}").splitlines()
    tasks = []
    for line in lines:
        task, _, state, reason, comment = line.strip().split("|", 4)
        tasks.append(Task(task, state, reason, comment))
    return tasks


def preempted(task: str) -> bool:
    """Whether SLURM is ending a task to make room for another's, and not because somebody cancelled it."""
    # A task that ends gets its signal twice, all its processes do: the second must not end the question.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        words = dict(word.partition("=")[::2] for word in _call("scontrol", "--oneliner", "show", "job", task).split())
    except RunError:
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return words.get("PreemptTime", "None") not in {"None", "Unknown", "(null)", ""}


def submit(script: str, *options: str) -> str:
    """Submit a batch script and return the job's number.

    Raises
    ------
    InputError
        If SLURM refuses it; the message has SLURM's words.
    RunError
        If SLURM does not answer, or has no room: then it may have it all the same.
    """
    try:
        return _call("sbatch", "--parsable", *options, text=script).strip().split(";")[0]
    except RunError as error:
        if any(words in str(error) for words in _NO_ANSWER + TOO_MANY):
            raise
        raise InputError(f"SLURM must accept the profile's options, but: {error}") from None


def cancel(tasks: list[str]) -> None:
    """Cancel tasks; those that are gone already do not matter."""
    if tasks:
        _call("scancel", *tasks)


def requeue(task: str) -> None:
    """Put a running task back into the queue."""
    _call("scontrol", "requeue", task)


@dataclass(frozen=True)
class Limits:
    """What may be submitted now.

    Parameters
    ----------
    array
        Most tasks of one array (the cluster's MaxArraySize).
    jobs
        Jobs, a task of an array being one, that this user may have in the queue beside those that are there; None: any
        number, or not known.
    """

    array: int
    jobs: int | None


def limits(account: str | None, qos: str | None) -> Limits:
    """What may be submitted under an account (None: the user's default) and a quality of service (None: the cluster's).

    Where SLURM keeps no accounts, or enforces no limits, there are none to ask for. A limit that this does not find,
    such as a partition's, SLURM itself tells when it refuses.
    """
    config = {
        name.strip(): value.strip()
        for name, _, value in (line.partition("=") for line in _call("scontrol", "show", "config").splitlines())
    }
    array = max(1, int(config.get("MaxArraySize", "1")))
    if not {"limits", "safe"} & set(config.get("AccountingStorageEnforce", "").split(",")):
        return Limits(array, None)
    try:
        user = getpass.getuser()
        said = _call("scontrol", "show", "assoc_mgr", f"users={user}", "flags=assoc,qos")
    except (RunError, OSError, KeyError):
        return Limits(array, None)
    return Limits(array, _left(said, user, account, qos))


def _left(said: str, user: str, account: str | None, qos: str | None) -> int | None:
    """The least that any limit on submitted jobs leaves, from the words of ``scontrol show assoc_mgr``."""
    associations, _, services = said.partition("QOS Records")
    mine = [
        record
        for record in re.split(r"^(?=ClusterName=)", associations, flags=re.MULTILINE)
        if f"UserName={user}(" in record
        and (f"Account={account} " in record if account is not None else "DefAssoc=Yes" in record)
    ]
    offered = re.split(r"^(?=QOS=)", services, flags=re.MULTILINE)
    mine += [record for record in offered if record.startswith(f"QOS={qos or 'normal'}(")]
    found = [_SUBMITTED.finditer(record) for record in mine]
    left = [int(each["most"]) - int(each["now"]) for matches in found for each in matches]
    return max(0, min(left)) if left else None


def _call(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except FileNotFoundError:
        raise InputError(f"SLURM's commands must be on the PATH, but {command[0]} is not found") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{command[0]} did not answer within {_PATIENCE} seconds") from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise RunError(f"{command[0]}: {words.removeprefix(f'{command[0]}: error: ')}")
    return done.stdout
