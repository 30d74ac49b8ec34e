#pragma once
#include <unroll/nn/recurrent.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

/// What a step is made of: the command line.
struct Config {
  std::string module = "LSTM";
  std::int64_t seq_len = 50, batch = 16, input_size = 32, hidden_size = 32, num_layers = 1, proj_size = 0;
  bool bidirectional = false, packed = false, input_grad = false, forward_only = false;
  unroll::DType dtype = unroll::DType::Float32;
  unroll::nn::Memory memory = unroll::nn::Memory::KeepGates;
  int threads = 1;
  double seconds = 1;

  /// RNN, LSTM, GRU, as opposed to a cell, MGU, Tanh or Mul.
  bool is_layer() const;
  /// Of the sequences of a batch: all T, or packed, falling evenly from T to T/4.
  std::vector<std::int64_t> lengths() const;
  /// Raises ValueError for options that this module does not have.
  void validate() const;
};

/// The floating-point operations that a step cannot do without: those of its matrix products, two for each
/// multiply-add.
///
/// Of a layer and direction with R = Σ lengths rows, G gates, F features in, H hidden and Ho = P or else H out:
///
///     forward     2 R (G H (F + Ho) + H P)
///     weights     the same
///     state       2 R (G H Ho + H P)
///     its input   2 R G H F      in upper layers, and in the first if x needs a gradient
///
/// Only the first line is counted if only forward runs. Tanh and Mul have no products: 0.
double needed_flops(const Config& config);

}  // namespace bench
