"""PyTorch's half: loads the weights that unroll wrote and compares outputs, then writes weights and outputs of its own.

interchange.py READ_DIR WRITE_DIR. safetensors files are read and written here by hand: Debian has no package for it.
"""
import json
import struct
import sys
from pathlib import Path

import torch
from torch import nn

DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


def load_file(path):
    data = Path(path).read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header, tensors = json.loads(data[8 : 8 + n]), {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + n + offset for offset in entry["data_offsets"])
            flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def save_file(tensors, path):
    header, chunks, offset = {}, [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        dtype = next(k for k, v in DTYPES.items() if v == tensor.dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(raw)]}
        chunks.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def models():
    return {
        "rnn": (nn.RNN(3, 4, 2, nonlinearity="relu", bias=False), lambda m, x: m(x)[0]),
        "lstm": (nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).double(), lambda m, x: m(x.double())[0]),
        "gru": (nn.GRU(3, 4, batch_first=True, bidirectional=True), lambda m, x: m(x)[0]),
        "cell": (nn.LSTMCell(3, 4), lambda m, x: m(x[0])[0]),
    }


def main(read, write):
    for name, (module, call) in models().items():
        module.load_state_dict(load_file(f"{read}/{name}.safetensors"))
        answer = load_file(f"{read}/{name}.answer.safetensors")
        torch.testing.assert_close(call(module, answer["input"]), answer["output"], rtol=1e-5, atol=1e-6)
        print(f"{name}: same output")
    torch.manual_seed(2)
    for name, (module, call) in models().items():
        x = torch.randn(5, 2, 3)
        save_file(module.state_dict(), f"{write}/{name}.safetensors")
        save_file({"input": x, "output": call(module, x)}, f"{write}/{name}.answer.safetensors")


main(*sys.argv[1:])
