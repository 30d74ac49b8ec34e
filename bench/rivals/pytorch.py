"""PyTorch: eager, as its documentation shows it."""

import torch
from protocol import LEARNING_RATE, lengths, serve, threads
from torch import nn

torch.set_num_threads(threads())


class MGUCell(nn.Module):
    """The minimal gated unit of bench/train_step/workload.cpp, and the loop over it."""

    def __init__(self, input_size, hidden_size, dtype):
        super().__init__()
        self.hidden_size = hidden_size
        self.forget = nn.Linear(input_size + hidden_size, hidden_size, dtype=dtype)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size, dtype=dtype)

    def forward(self, x, h):
        if h is None:
            h = x.new_zeros(x.shape[0], self.hidden_size)
        f = torch.sigmoid(self.forget(torch.cat([x, h], 1)))
        return (1 - f) * h + f * torch.tanh(self.candidate(torch.cat([x, f * h], 1)))


def over_layer(point, dtype, x):
    options = {"num_layers": point["num_layers"], "bidirectional": point["bidirectional"], "dtype": dtype}
    if point["proj_size"]:
        options["proj_size"] = point["proj_size"]
    module = getattr(nn, point["module"])(point["input_size"], point["hidden_size"], **options)
    if not point["packed"]:
        return list(module.parameters()), x, lambda: module(x)[0]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths(point))
    return list(module.parameters()), packed.data, lambda: module(packed)[0].data


def over_cell(point, dtype, x):
    make = MGUCell if point["module"] == "MGU" else getattr(nn, point["module"])
    cell = make(point["input_size"], point["hidden_size"], dtype=dtype)

    def forward():
        state, outputs = None, []
        for step in x.unbind():
            state = cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)

    return list(cell.parameters()), x, forward


def over_op(point, dtype):
    shape = point["batch"], point["hidden_size"]
    x = torch.rand(shape, dtype=dtype, requires_grad=True)
    factor = torch.ones(shape, dtype=dtype, requires_grad=True)
    multiply = point["module"] == "Mul"

    def forward():
        y = x
        for _ in range(point["seq_len"]):
            y = y * factor if multiply else torch.tanh(y)
        return y

    return [x, factor] if multiply else [x], x, forward


def prepare(point):
    torch.manual_seed(0)
    dtype = getattr(torch, point["dtype"])
    if point["module"] in ("Tanh", "Mul"):
        parameters, x, forward = over_op(point, dtype)
    else:
        x = torch.randn(point["seq_len"], point["batch"], point["input_size"], dtype=dtype)
        make = over_layer if point["module"] in ("RNN", "LSTM", "GRU") else over_cell
        parameters, x, forward = make(point, dtype, x)
        x.requires_grad_(point["input_grad"])

    if point["forward_only"]:
        return torch.inference_mode()(forward)
    with torch.no_grad():
        weight = torch.randn_like(forward())
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)

    def step():
        optimizer.zero_grad()
        x.grad = None  # as zero_grad does with those of the weights
        (forward() * weight).sum().backward()
        optimizer.step()

    return step


serve(torch.__version__, prepare)
