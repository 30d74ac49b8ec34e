"""bench/hello.cpp with PyTorch from Python."""

import torch

rnn = torch.nn.LSTM(8, 8)
loss = rnn(torch.randn(20, 1, 8))[0].sum()
loss.backward()
print(loss.item())
