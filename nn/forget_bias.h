#pragma once
#include <unroll/autograd/grad_mode.h>
#include <unroll/nn/recurrent.h>
#include <unroll/nn/rnn_cell_base.h>

#pragma GCC visibility push(default)
namespace unroll::nn::init {

/// Lets an LSTM remember to begin with (Gers et al. 2000; Jozefowicz et al. 2015 recommend 1): sets the forget gate's
/// bias, the sum of what bias_ih and bias_hh hold for it, to `value`. The cell is any with a gate "f" in its kGates.
/// Raises ValueError when it has no biases, ShapeError when one has been replaced by one of another shape.
template <class C>
requires std::derived_from<C, RNNCellBase>
void forget_bias_(C& cell, double value = 1) {
  constexpr auto gate =
      static_cast<std::size_t>(std::ranges::find(C::kGates, std::string_view("f")) - C::kGates.begin());
  static_assert(gate < C::kGates.size(), "forget_bias_: the cell has no gate f");
  check<ValueError>(cell.bias_ih.defined() && cell.bias_hh.defined(),
                    "forget_bias_: the cell has no biases, it was made with bias = false");
  NoGrad no_grad;
  auto block = [&](const Tensor& bias) {
    const Shape expected{static_cast<std::int64_t>(C::kGates.size()) * cell.hidden_size};
    check<ShapeError>(bias.shape() == expected,
                      "forget_bias_: a bias has been replaced by one of shape {}, expected {}", bias.shape(), expected);
    return narrow(bias, 0, static_cast<std::int64_t>(gate) * cell.hidden_size, cell.hidden_size);
  };
  const Tensor of_input = block(cell.bias_ih), of_hidden = block(cell.bias_hh);
  of_input.fill_(value);
  of_hidden.fill_(0);
}

/// The same for every layer and direction.
template <Cell C>
void forget_bias_(Recurrent<C>& layer, double value = 1) {
  for (std::int64_t l = 0; l < layer.num_layers; ++l)
    for (std::int64_t d = 0; d < layer.num_directions(); ++d) forget_bias_(layer.cell(l, d), value);
}

}  // namespace unroll::nn::init
#pragma GCC visibility pop
