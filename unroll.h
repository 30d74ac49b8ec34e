#pragma once
/// All of unroll. A program that cares how long it compiles includes what it uses.

#include <unroll/core/alloc.h>
#include <unroll/core/blas.h>
#include <unroll/core/dtype.h>
#include <unroll/core/error.h>
#include <unroll/core/generator.h>
#include <unroll/core/print.h>
#include <unroll/core/random.h>
#include <unroll/core/ref.h>
#include <unroll/core/shape.h>
#include <unroll/core/tensor.h>
#include <unroll/core/view.h>

#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/record.h>

#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <unroll/nn/cell.h>
#include <unroll/nn/clip_grad.h>
#include <unroll/nn/dropout.h>
#include <unroll/nn/embedding.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/gru_cell.h>
#include <unroll/nn/init.h>
#include <unroll/nn/layer_norm.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/lstm_cell.h>
#include <unroll/nn/module.h>
#include <unroll/nn/packed_sequence.h>
#include <unroll/nn/recurrent.h>
#include <unroll/nn/rnn.h>
#include <unroll/nn/rnn_cell.h>
#include <unroll/nn/rnn_cell_base.h>
#include <unroll/nn/sequential.h>

#include <unroll/optim/adam.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/optimizer.h>
#include <unroll/optim/sgd.h>

#include <unroll/io/checkpoint.h>
#include <unroll/io/file.h>
#include <unroll/io/safetensors.h>
