#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/view.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

Values values(const Tensor& x) { return kernels::cast(x, DType::Float64).to_vector<double>(); }

Tensor one_hot_like(const Tensor& y, std::int64_t k) {
  Tensor result = zeros_like(y);
  kernels::fill(views::as_strided(result, {}, {}, k), 1);
  return result;
}

double largest(const Values& numbers) {
  double result = 0;
  for (double n : numbers) result = std::max(result, std::isfinite(n) ? std::abs(n) : 0);
  return result;
}

// -- Inputs on loan

Lent::Lent(const Tensors& inputs) {
  for (const Tensor& x : inputs) {
    bool known = std::ranges::any_of(kept_, [&](const Kept& kept) { return kept.x.is_same(x); });
    if (!x.defined() || known) continue;
    Ref<GradSlot> fresh;
    if (x.requires_grad()) {
      fresh = Ref<GradSlot>::adopt(new GradSlot(x));
      fresh->requires_grad = true;
    }
    kept_.push_back({.x = x, .slot = std::move(fresh), .storage = {}});
  }
  for (Kept& kept : kept_) std::swap(kept.x.body().grad_slot, kept.slot);  // once nothing can fail any more
}

void Lent::to_float64() {
  for (Kept& kept : kept_) {
    if (kept.x.dtype() != DType::Float32) continue;
    Body& body = kept.x.body();
    Tensor wide = kernels::cast(kept.x, DType::Float64);
    Ref<GradSlot> fresh;
    if (kept.x.requires_grad()) {
      fresh = Ref<GradSlot>::adopt(new GradSlot(wide));
      fresh->requires_grad = true;
    }
    kept.strides = std::exchange(body.strides, wide.strides());
    kept.offset = std::exchange(body.offset, wide.body().offset);
    kept.contiguous = std::exchange(body.contiguous, true);
    kept.storage = replace_storage(body, wide.body().storage);
    body.dtype = DType::Float64;
    body.grad_slot = std::move(fresh);
  }
}

Lent::~Lent() {
  for (Kept& kept : kept_) {
    Body& body = kept.x.body();
    body.grad_slot = std::move(kept.slot);
    if (!kept.storage) continue;
    replace_storage(body, std::move(kept.storage));
    body.strides = kept.strides;
    body.offset = kept.offset;
    body.contiguous = kept.contiguous;
    body.dtype = DType::Float32;
  }
}

Moved::Moved(const Tensor& x, std::span<const std::int64_t> offsets, std::span<const double> by)
    : x_(x), offsets_(offsets), before_(offsets.size()) {
  // While the elements are others, no kernel may keep panels of them or use those it has.
  was_given_out_ = x.body().storage->is_given_out.exchange(true, std::memory_order_relaxed);
  dispatch_float("gradcheck", x.dtype(), [&]<class T>() {
    T* data = x.raw<T>();
    for (std::size_t k = 0; k < offsets.size(); ++k) {
      before_[k] = data[offsets[k]];
      data[offsets[k]] = static_cast<T>(before_[k] + by[k]);
    }
  });
}

Moved::~Moved() {
  for (std::size_t k = 0; k < offsets_.size(); ++k)
    if (x_.dtype() == DType::Float32)
      x_.raw<float>()[offsets_[k]] = static_cast<float>(before_[k]);
    else
      x_.raw<double>()[offsets_[k]] = before_[k];
  x_.body().storage->is_given_out.store(was_given_out_, std::memory_order_relaxed);
}

// -- The function

namespace {
std::vector<std::int64_t> offsets_of(const Tensor& x) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t e = 0; e < x.numel(); ++e) {
    Shape index = index_of(x.shape(), e);
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * x.strides()[d];
    offsets.push_back(offset);
  }
  return offsets;
}

// Of random sign and of sizes in [0.5, 1.5): no output goes unseen because its number happens to be small.
Tensor random_cotangent(const Tensor& y, Generator& generator) {
  Values numbers;
  for (std::int64_t k = 0; k < y.numel(); ++k) {
    double u = static_cast<double>(generator.random32()) / 4294967296.0 * 2 - 1;
    numbers.push_back(u < 0 ? u - 0.5 : u + 0.5);
  }
  return kernels::cast(from_data(numbers, y.shape()), y.dtype());
}
}  // namespace

Subject::Subject(const CheckedFunction& function, const Tensors& all_inputs, const GradcheckOptions& given,
                 const GradcheckLabels& names, bool every_output)
    : f(function), options(given), labels(names), inputs(all_inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].requires_grad()) {
      xs.push_back(inputs[i]);
      x_index.push_back(i);
    }
  check<ValueError>(!xs.empty(), "gradcheck: none of the {} inputs requires a gradient", inputs.size());
  for (const Tensor& x : xs)
    for (std::size_t d = 0; d < x.shape().size(); ++d)
      check<ValueError>(x.shape()[d] <= 1 || x.strides()[d] != 0,
                        "gradcheck: elements of the expanded input of shape {} share memory; clone() it first",
                        x.shape());
  for (const Tensor& x : xs) {
    offsets.push_back(offsets_of(x));
    x0.push_back(values(x));
    x0_version.push_back(x.version());
  }

  Tensors outputs = f(inputs);
  output_count = outputs.size();
  check<ValueError>(std::ranges::any_of(outputs, &Tensor::defined), "gradcheck: the function returned no tensor");
  any_gradient = std::ranges::any_of(outputs, [](const Tensor& y) { return y.requires_grad(); });
  Generator numbers;
  for (std::size_t j = 0; j < outputs.size(); ++j) {
    const Tensor& y = outputs[j];
    if (!y.defined() || !y.is_floating_point()) continue;
    if (any_gradient && !every_output && !y.requires_grad()) continue;
    ys.push_back(y);
    y_index.push_back(j);
    v.push_back(random_cotangent(y, numbers));
    y0.push_back(values(y));
    v0.push_back(values(v.back()));
  }
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

void Subject::check_unchanged() const {
  for (std::size_t i = 0; i < xs.size(); ++i)
    require(same_bits(values(xs[i]), x0[i]) && xs[i].version() == x0_version[i], GradcheckFault::Written,
            "the function or its gradient wrote to {}", name(i));
}

Tensors Subject::run() const {
  if (options.fix_random) generator.restart();
  Tensors outputs = f(inputs), result;
  require(outputs.size() == output_count, GradcheckFault::Nondeterministic,
          "there are {} outputs, and in another run {}; their number may not depend on the elements of an input",
          output_count, outputs.size());
  for (std::size_t k = 0; k < ys.size(); ++k) {
    std::size_t j = y_index[k];
    require(outputs[j].defined() && outputs[j].shape() == ys[k].shape() && outputs[j].dtype() == ys[k].dtype(),
            GradcheckFault::Nondeterministic,
            "output {} is not always there with shape {} and dtype {}; it may not depend on the elements of an input",
            j, ys[k].shape(), ys[k].dtype());
    result.push_back(outputs[j]);
  }
  return result;
}

Tensors Subject::gradients(const Tensors& outputs, const Tensors& cotangents, bool create_graph) const {
  Tensors some, their, wanted, result;
  for (std::size_t j = 0; j < outputs.size(); ++j)
    if (outputs[j].requires_grad()) {
      some.push_back(outputs[j]);
      their.push_back(cotangents[j]);
    }
  for (const Tensor& x : xs)
    if (x.requires_grad()) wanted.push_back(x);
  Tensors found(wanted.size());
  if (!some.empty() && !wanted.empty())
    found = grad(some, wanted,
                 {.grad_outputs = their, .retain_graph = true, .create_graph = create_graph, .allow_unused = true});
  std::size_t next = 0;
  for (const Tensor& x : xs) {
    Tensor dx = x.requires_grad() ? found[next++] : Tensor();
    result.push_back(dx.defined() ? dx : zeros(x.shape(), x.dtype()));
  }
  return result;
}

std::string Subject::name(std::size_t x) const {
  std::size_t i = x_index[x];
  return i < labels.inputs.size() && !labels.inputs[i].name.empty() ? labels.inputs[i].name
                                                                    : fmt::format("input {}", i);
}

}  // namespace unroll::detail
