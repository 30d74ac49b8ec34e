"""The points that are measured, and what we want to reach at each."""

from dataclasses import asdict, dataclass, replace

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4, "MGU": 2}


@dataclass(frozen=True)
class Point:
    """A training step of one module, as train_step takes it. Tanh and Mul are T ops in a row on (N, H)."""

    module: str
    seq_len: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int = 1
    proj_size: int = 0
    bidirectional: bool = False
    packed: bool = False
    input_grad: bool = False
    forward_only: bool = False
    dtype: str = "float32"
    threads: int = 1
    target: float = 1.0  # how many times faster than PyTorch we want to be, with one thread

    @property
    def kind(self):
        return self.module.removesuffix("Cell")

    @property
    def is_layer(self):
        return self.module in ("RNN", "GRU", "LSTM")

    @property
    def group(self):
        """The table that it belongs to."""
        if self.module in ("Tanh", "Mul"):
            return "Eager ops"
        if not self.is_layer:
            return "Cells in a loop"
        return "Forward alone" if self.forward_only else self.module

    @property
    def label(self):
        if self.module in ("Tanh", "Mul"):
            return f"{self.seq_len} × {self.module.lower()} {self.batch}×{self.hidden_size}"
        words = [f"{self.module} T{self.seq_len} N{self.batch} I{self.input_size} H{self.hidden_size}"]
        if self.num_layers > 1:
            words.append(f"{self.num_layers} layers")
        if self.proj_size:
            words.append(f"projected to {self.proj_size}")
        words += [flag.replace("_", " ") for flag in ("bidirectional", "packed", "input_grad") if getattr(self, flag)]
        if self.dtype != "float32":
            words.append(self.dtype)
        return ", ".join(words)

    @property
    def name(self):
        """The label and what the tables say elsewhere: what --points searches."""
        words = ", forward" * self.forward_only
        return f"{self.label}{words}, {self.threads} thread{'s' * (self.threads > 1)}"

    def arguments(self):
        """The command line of train_step."""
        options = self.to_json()
        flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is True]
        values = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items() if type(value) is not bool]
        return flags + [word for pair in values for word in pair]

    def to_json(self):
        """What a rival is told."""
        return {name: value for name, value in asdict(self).items() if name != "target"}

    def lengths(self):
        """Of the sequences of the batch: packed, they fall evenly from T to T/4."""
        fall = self.seq_len - max(1, self.seq_len // 4) if self.packed else 0
        return [self.seq_len - fall * n // max(1, self.batch - 1) for n in range(self.batch)]

    def needed_flops(self):
        """As bench/train_step/config.h says; a test holds the two together."""
        gates = GATES.get(self.kind, 0) * self.hidden_size
        out = self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        total = 0
        for layer in range(self.num_layers):
            of_input = gates * (self.input_size if layer == 0 else directions * out)
            of_state = gates * out + self.hidden_size * self.proj_size
            total += of_input + of_state
            if not self.forward_only:
                total += of_input + 2 * of_state
                if layer > 0 or self.input_grad:
                    total += of_input
        return 2 * sum(self.lengths()) * directions * total

    def ratio_target(self):
        """How many times faster than PyTorch we want to be. Goals above 1 were set for one thread."""
        return self.target if self.threads == 1 else 1.0

    def peak_target(self):
        """The fraction of the FMA peak that we want to reach, or None."""
        if not self.is_layer or self.forward_only or self.packed or self.proj_size or self.dtype != "float32":
            return None
        one = self.threads == 1
        if self.hidden_size == 1024 and self.batch >= 64:
            return 0.85 if one else 0.78
        if 128 <= self.hidden_size <= 512 and self.batch >= 32:
            return 0.82 if one else 0.78
        if self.hidden_size == 64 and self.batch == 16 and one:
            return 0.65
        return None

    def scaling_target(self):
        """How many times faster than one thread two are to be."""
        return 1.8 if self.is_layer and self.hidden_size >= 128 and self.batch >= 32 else 0.98


def training_points():
    """All that is trained, with one thread."""

    def at(module, T, N, I, H, target=1.0, **options):
        return Point(module, T, N, I, H, target=target, **options)

    return [
        at("LSTM", 20, 1, 8, 8, 30),
        at("LSTM", 32, 1, 16, 16, 30),
        at("LSTM", 50, 16, 16, 32, 2.8),
        at("LSTM", 37, 5, 13, 19),
        at("LSTM", 100, 16, 64, 64, 1.7),
        at("LSTM", 60, 17, 50, 100),
        at("LSTM", 100, 32, 128, 128, 2.2, num_layers=2),
        at("LSTM", 100, 32, 128, 128, input_grad=True),
        at("LSTM", 50, 33, 100, 201),
        at("LSTM", 100, 32, 256, 256, 1.7),
        at("LSTM", 50, 128, 256, 256, 1.35),
        at("LSTM", 50, 64, 512, 512, 1.6),
        at("LSTM", 100, 1, 512, 512, 1.2),
        at("LSTM", 35, 20, 650, 650, 1.4, num_layers=2),
        at("LSTM", 25, 64, 1024, 1024, 1.35),
        at("LSTM", 50, 8, 1024, 1024, 1.2),
        at("LSTM", 60, 32, 128, 128, 1.6, bidirectional=True),
        at("LSTM", 50, 32, 256, 512, 2, proj_size=256),
        at("LSTM", 100, 32, 128, 128, 5, packed=True),
        at("LSTM", 50, 16, 64, 64, 4, dtype="float64"),
        at("GRU", 20, 1, 8, 8, 100),
        at("GRU", 32, 1, 16, 16, 100),
        at("GRU", 50, 16, 16, 32, 15),
        at("GRU", 37, 5, 13, 19),
        at("GRU", 100, 16, 64, 64, 7),
        at("GRU", 60, 17, 50, 100),
        at("GRU", 100, 32, 256, 256, 2.5),
        at("GRU", 50, 64, 512, 512, 2.2),
        at("GRU", 25, 64, 1024, 1024),
        at("GRU", 60, 32, 128, 128, bidirectional=True),
        at("GRU", 100, 32, 128, 128, packed=True),
        at("GRU", 50, 16, 64, 64, dtype="float64"),
        at("RNN", 20, 1, 8, 8, 60),
        at("RNN", 50, 16, 16, 32, 12),
        at("RNN", 60, 17, 50, 100),
        at("RNN", 100, 32, 256, 256, 2.5),
        at("RNN", 100, 32, 128, 128, packed=True),
        at("RNN", 50, 16, 64, 64, dtype="float64"),
        at("LSTMCell", 100, 1, 8, 8, 60),
        at("GRUCell", 100, 1, 8, 8, 60),
        at("RNNCell", 100, 1, 8, 8, 40),
        at("LSTMCell", 50, 32, 128, 128, 2.5),
        at("GRUCell", 50, 32, 128, 128, 2.5),
        at("RNNCell", 50, 32, 128, 128, 2.5),
        at("MGU", 100, 1, 8, 8, 15),
        at("Tanh", 100, 8, 8, 8),
        at("Mul", 100, 4, 4, 4),
    ]


def forward_points():
    sizes = [(32, 1, 16, 16), (50, 16, 16, 32), (100, 16, 64, 64), (100, 32, 256, 256), (50, 64, 512, 512), (100, 1, 512, 512)]
    return [Point(module, *size, forward_only=True) for module in ("LSTM", "GRU") for size in sizes]


def all_points():
    one = training_points()
    two = [replace(p, threads=2) for p in one if p.group != "Eager ops"]
    return one + forward_points() + two


def twins(chosen):
    """The points in groups that differ in nothing but threads."""
    groups = {}
    for point in chosen:
        groups.setdefault(replace(point, threads=1), []).append(point)
    return list(groups.values())


def quick_points():
    """Some of each kind, in two or three minutes."""
    chosen = {
        "LSTM T20 N1 I8 H8",
        "LSTM T50 N16 I16 H32",
        "LSTM T100 N32 I128 H128, packed",
        "GRU T50 N16 I16 H32",
        "RNN T50 N16 I16 H32",
        "LSTMCell T100 N1 I8 H8",
        "MGU T100 N1 I8 H8",
        "100 × tanh 8×8",
    }
    return [p for p in all_points() if p.label in chosen and (p.threads == 1 or p.hidden_size == 128)]
