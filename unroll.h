#pragma once
/// All of unroll. A program that cares how long it compiles includes what it uses.

#include <unroll/core/alloc.h>
#include <unroll/core/dtype.h>
#include <unroll/core/error.h>
#include <unroll/core/random.h>
#include <unroll/core/ref.h>
#include <unroll/core/shape.h>
#include <unroll/core/tensor.h>
#include <unroll/core/view.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/record.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/in_place.h>
#include <unroll/autograd/ops/reduce.h>
