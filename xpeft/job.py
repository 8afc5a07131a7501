"""What one training job is told: the resolved, typed form of a cell's settings.

A job is a task x method x bank with all its seeds. `xpeft cells` resolves a config
into one JSON file a job; `xpeft train` needs that file and nothing else of the config,
so that a lean compute node needs neither YAML schemas nor Snakemake.

Each setting is marked by where it comes from: `paper` (stated in arXiv 2401.16137),
`derived` (follows from a figure the paper states), or `ours` (the paper is silent).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_type_hints

from xpeft.errors import ConfigError, show
from xpeft.io import canonical_json, read_json

PeerMethod = Literal["lora", "ia3", "vera", "vblora", "unilora", "prompt_tuning"]
Method = Literal["head_only", "single_adapter", "x_peft", "full", "bitfit", PeerMethod]
MaskKind = Literal["soft", "hard"]
BankKind = Literal["random", "trained", "warm"]
Sides = Literal["separate", "tied", "down", "up"]
Norm = Literal["none", "fixed", "affine"]
Scale = Literal["sqrt", "mean", "sum"]
Activation = Literal["linear", "softmax"]
Estimator = Literal["identity", "sigmoid", "softmax"]
TaskHead = Literal["private", "binary", "seeded"]

PEER_METHODS: tuple[str, ...] = get_args(PeerMethod)
"""Methods of other work that the library `peft` builds; see `xpeft.peers`."""

CHEAP_HEADS = ("binary", "seeded")
"""Heads of tasks of which a profile keeps next to nothing; see `xpeft.heads`."""

OWN_WEIGHTS = ("full", "bitfit")
"""Methods that train the encoder's own weights, which therefore keep full precision."""

ALONE = (*OWN_WEIGHTS, *PEER_METHODS)
"""Methods that train one profile at a time."""


def binary_rows(outputs: int) -> int:
    """C', rows of a binary head with so many outputs; see `xpeft.heads`."""
    return max(1, outputs - 1)


@dataclass(frozen=True)
class EncoderSpec:
    """Which frozen encoder, from where, and how a text becomes one vector."""

    name: str = "all-MiniLM-L6-v2"
    source: Literal["package", "hub", "local"] = "package"
    revision: str | None = None
    path: str | None = None
    pooling: Literal["mean", "cls"] = "mean"  # ours
    max_length: int = 128  # tokens; paper for GLUE
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"  # of the frozen part


@dataclass(frozen=True)
class BankSpec:
    """Which adapters the masks choose from. A random bank is these numbers and no file."""

    kind: BankKind = "random"
    n: int = 100
    seed: int = 0
    reduction: int = 16  # paper: d / b, so b = 48 for BERT-base
    init: Literal["uniform", "signed"] = "uniform"  # ours
    down_std: float = 0.02  # ours: standard deviation of one adapter's entries
    up_std: float = 0.02  # ours
    path: str | None = None  # folder of a stored bank (trained, warm)
    random_share: float = 0.0  # of a stored bank: its last adapters are random ones instead; ours

    @property
    def drawn(self) -> int:
        """How many adapters of a stored bank are random ones instead."""
        return round(self.random_share * self.n)


@dataclass(frozen=True)
class MethodSpec:
    """What is trained for a profile. Fields that a method does not use keep their default."""

    method: Method = "x_peft"
    reduction: int = 16  # paper; of `single_adapter`
    mask: MaskKind | None = None  # paper: both
    k: int | None = None  # adapters a hard mask selects per block and side; ours
    activation: Activation = "linear"  # of soft masks; ours
    estimator: Estimator = "identity"  # of the gradient through hard masks; ours
    sides: Sides = "separate"  # paper: M_A and M_B are separate
    center: bool = False  # hard masks count k/N less in every entry: 0 bytes, signed; ours
    norm: Norm = "fixed"  # over the bottleneck, after the down-projection; ours
    scale: Scale = "sqrt"  # of the aggregate; ours
    down_gain: float = 1.0  # constant factor on the down aggregate; ours
    up_gain: float = 1.0  # constant factor on the up aggregate; ours
    learned_gain: bool = False  # one trained factor a block and side; ours
    mask_init_mean: float = 0.0  # ours
    mask_init_std: float = 1.0  # ours; a hard mask depends on lr / std alone


def check_center(key: str, method: MethodSpec, n: int) -> None:
    """Centred masks are hard, leave something out, and are no mean: their entries sum to zero.

    Raises:
        ConfigError: they are not, over a bank of `n`; `key` is the setting's.
    """
    if method.center and (method.mask != "hard" or method.k == n or method.scale == "mean"):
        raise ConfigError(
            f"{key}: found it with mask {method.mask}, k {method.k} of {n}, scale "
            f"{method.scale}; expected a hard mask with k < N and scale sqrt or sum: centred "
            "entries sum to zero"
        )


@dataclass(frozen=True)
class TrainingSpec:
    """How a profile is trained. All `ours`: the paper's hyper-parameters are not known to us."""

    epochs: float = 3.0
    batch_size: int = 32  # rows a profile and step
    rows_at_once: int = 32  # most rows of one pass, over profiles; more suits a GPU
    lr: float = 1e-3  # of masks, adapters or encoder
    head_lr: float = 1e-3
    warmup: float = 0.06  # share of the steps
    weight_decay: float = 0.0
    clip: float = 1.0  # largest gradient norm of a profile; 0 switches it off
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True)
class TuningSpec:
    """Equal budgets: every method gets the same number of trials on held-out training data."""

    trials: tuple[dict[str, float], ...] = ()  # overrides of TrainingSpec fields, one dict a trial
    epochs: float | None = None  # of a trial; None: as many as the arm trains
    max_rows: int = 2000  # training rows a trial sees
    holdout: float = 0.2  # share of those rows kept apart to score the trials
    seed: int = 0


class _Told:
    """A dataclass that is read from, and written as, plain JSON.

    Attributes:
        added: fields, by their dotted path, that came after records were committed, with the value
            that they had in effect until then; at that value they do not count in `config_hash`.
    """

    added: ClassVar[dict[str, Any]] = {}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Build it from plain JSON.

        Raises:
            ConfigError: a key is unknown or missing, or a value has the wrong type.
        """
        return build(cls, value, "job")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file that `xpeft cells` wrote.

        Raises:
            ConfigError: as for `from_dict`; it names the file.
            XpeftError: the file is missing or not JSON.
        """
        value = read_json(path)
        try:
            return cls.from_dict(value)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}; write it with xpeft cells") from None

    def to_dict(self) -> dict[str, Any]:
        """The plain JSON form: `from_dict(job.to_dict()) == job`."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))  # type: ignore[call-overload]
        return plain

    def config_hash(self) -> str:
        """sha256 of all that decides a cell's result except its seed.

        Seeds train together but do not influence each other, so adding one leaves the
        hash, and with it the finished records, valid.
        """
        value = self.to_dict()
        value.pop("seeds", None)
        for path, before in self.added.items():
            *parents, name = path.split(".")
            holder: Any = value
            for parent in parents:
                holder = holder and holder[parent]
            if holder and holder[name] == before:
                del holder[name]
        del value["training"]["checkpoint_seconds"]
        return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Job(_Told):
    """A task x method x bank with all its seeds, ready to run."""

    tier: str
    suite: str
    task: str
    arm: str  # unique name of method x mask x bank x N x k x variant within the tier
    seeds: tuple[int, ...]
    encoder: EncoderSpec
    method: MethodSpec
    training: TrainingSpec
    bank: BankSpec | None = None
    tuning: TuningSpec | None = None
    threads: int = 1  # scores are byte-identical for the same number of threads
    variant: str = ""  # name of an ablation's change, empty for the main grid
    head: TaskHead = "private"  # see `xpeft.heads`; all but private are ours

    added: ClassVar[dict[str, Any]] = {"head": "private", "bank.random_share": 0.0}

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)


@dataclass(frozen=True)
class PoolJob(_Told):
    """The adapters that one source task gives to `trained` banks; see `xpeft.pool`."""

    tier: str
    suite: str
    task: str
    encoder: EncoderSpec
    training: TrainingSpec
    adapters: int
    reduction: int = 16  # paper
    max_train_rows: int | None = None  # of the task, before they are halved; None for all
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class DonorJob(_Told):
    """What the donors of a cohort leave to its targets, for each fold of the sheet.

    First the base, trained on the rows of all donors as if they were one: a head on the plain
    encoder, and an adapter with its head. Then, from the base adapter and with its head frozen,
    an adapter a donor: the warm bank. `base_training` and `training` are theirs.
    """

    tier: str
    cohort: str
    encoder: EncoderSpec
    base_training: TrainingSpec
    training: TrainingSpec
    n: int = 100  # adapters of the warm bank: those of the donors with most rows; 0 for none
    reduction: int = 16  # paper
    max_train_rows: int | None = None  # rows a donor gives; None for all
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class CohortJob(_Told):
    """A cohort x method x bank with all its seeds: one model for each target profile, or for all.

    Attributes:
        scope: `profile` trains each target on its own rows; `cohort` one model on the training
            rows of everybody, donors and targets alike.
        base: what of the donors it starts from: `none`, the `head` on the plain encoder, or the
            `adapter` with its head (`x_peft` over a warm bank, whose adapters come from it).
        head: `private` is trained for each profile; `shared` is the base's, frozen;
            `shared+bias` is the base's with a trained bias for each profile. With `head_only` and
            `shared` nothing is trained: that is the base as it is.
    """

    tier: str
    cohort: str
    arm: str
    seeds: tuple[int, ...]
    encoder: EncoderSpec
    method: MethodSpec
    training: TrainingSpec
    scope: Literal["profile", "cohort"] = "profile"
    base: Literal["none", "head", "adapter"] = "none"
    head: Literal["private", "shared", "shared+bias"] = "private"
    bank: BankSpec | None = None
    tuning: TuningSpec | None = None
    max_train_rows: int | None = None  # rows of each profile; None for all
    threads: int = 1
    variant: str = ""

    added: ClassVar[dict[str, Any]] = {"bank.random_share": 0.0}

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)

    @property
    def tuned(self) -> bool:
        """Whether it has trials to choose among."""
        return self.tuning is not None and bool(self.tuning.trials)

    @property
    def trains(self) -> bool:
        """Whether anything is trained; if not, it is the base that is scored."""
        return trains(self.method.method, self.head)


def trains(method: str, head: str) -> bool:
    """Whether an arm trains anything: not a head alone that is the donors'."""
    return method != "head_only" or head != "shared"


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: found {list(seeds)}, expected different whole numbers from 0")


AnyJob = Job | PoolJob | DonorJob | CohortJob


def job_from_dict(value: dict[str, Any]) -> AnyJob:
    """The job of any kind that plain JSON holds.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"job: found {show(value)}, expected an object")
    if "base_training" in value:
        return DonorJob.from_dict(value)
    if "adapters" in value:
        return PoolJob.from_dict(value)
    return CohortJob.from_dict(value) if "cohort" in value else Job.from_dict(value)


T = TypeVar("T")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def build(cls: type[T], value: Any, where: str) -> T:
    """A dataclass of plain values from plain JSON, its types checked; `where` names it in errors.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, found {type(value).__name__}")
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = {name: hint for name, hint in get_type_hints(cls).items() if name in known}
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ConfigError(
            f"{where}.{unknown[0]}: unknown setting; known: {', '.join(sorted(hints))}"
        )
    built = {key: _convert(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = [hint]
    if type(None) in get_args(hint):
        if value is None:
            return None
        options = [item for item in get_args(hint) if item is not type(None)]
    hint = options[0]
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    origin = getattr(hint, "__origin__", None)
    if origin is Literal:
        if value not in get_args(hint):
            allowed = ", ".join(map(str, get_args(hint)))
            raise ConfigError(f"{where}: found {value!r}, expected one of {allowed}")
        return value
    if origin is tuple:
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if origin is dict:
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: found {value!r}, expected {hint.__name__}")
    return value
