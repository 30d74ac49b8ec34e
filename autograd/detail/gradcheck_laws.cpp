#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/alloc.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/view.h>

#include <algorithm>

// What must hold of every gradient, whatever its value: several ways to it agree.
namespace unroll::detail {
namespace {

using Fault = GradcheckFault;

// Two ways may differ by rounding.
double rounding_of(const Tensor& x) { return x.dtype() == DType::Float32 ? 2e-5 : 1e-10; }

double largest(const Tensor& x) { return detail::largest(values(x)); }

// The same numbers in memory of another sort: every second place, dimensions reversed, NaN between.
Tensor strided_copy(const Tensor& v) {
  Shape strides = v.shape();
  std::int64_t step = 2;
  for (std::size_t d = 0; d < strides.size(); ++d) {
    strides[d] = step;
    step *= std::max<std::int64_t>(v.shape()[d], 1);
  }
  Tensor copy = views::as_strided(full(step + 1, NAN, v.dtype()), v.shape(), strides, 1);
  kernels::copy(copy, v);
  return copy;
}

// Which of the inputs require a gradient, for the time of a scope.
class Requiring {
 public:
  Requiring(const Tensors& xs, const std::vector<bool>& some) : xs_(xs) {
    for (const Tensor& x : xs) x.requires_grad_(false);
    for (std::size_t i = 0; i < xs.size(); ++i)
      if (some[i]) xs[i].requires_grad_();
  }
  ~Requiring() {
    for (const Tensor& x : xs_) x.requires_grad_();
  }
  Requiring(const Requiring&) = delete;
  Requiring& operator=(const Requiring&) = delete;

 private:
  const Tensors& xs_;
};

// All subsets but the empty and the full one of up to four; of more, each alone and each left out.
std::vector<std::vector<bool>> proper_subsets(std::size_t n) {
  std::vector<std::vector<bool>> result;
  if (n <= 4) {
    for (unsigned bits = 1; bits + 1 < 1u << n; ++bits) {
      result.emplace_back(n);
      for (std::size_t i = 0; i < n; ++i) result.back()[i] = (bits >> i & 1) != 0;
    }
  } else {
    for (bool alone : {true, false})
      for (std::size_t i = 0; i < n; ++i) {
        result.emplace_back(n, !alone);
        result.back()[i] = alone;
      }
  }
  return result;
}

class Laws {
 public:
  Laws(const Subject& subject, GradcheckReport& report)
      : s_(subject), report_(report), ys_(s_.run()), first_(s_.gradients(ys_, s_.v)) {
    for (std::size_t j = 0; j < ys_.size(); ++j) each_.push_back(s_.gradients({ys_[j]}, {s_.v[j]}));
    for (std::size_t i = 0; i < first_.size(); ++i) {
      scale_.push_back(largest(first_[i]));
      for (const Tensors& dx : each_) scale_[i] = std::max(scale_[i], largest(dx[i]));
    }
  }

  void check_all() {
    attempt(Fault::NotReentrant, [this] { reentrant(); });
    attempt(Fault::Cotangent, [this] { linear(); });
    attempt(Fault::Layout, [this] { layouts(); });
    if (s_.options.check_undefined_grad) attempt(Fault::Undefined, [this] { without_outputs(); });
    if (s_.options.check_create_graph) attempt(Fault::CreateGraph, [this] { create_graph(); });
    attempt(Fault::Accumulation, [this] { accumulation(); });
    if (s_.options.check_subsets) attempt(Fault::Subset, [this] { subsets(); });
    if (s_.options.check_leaks) attempt(Fault::Leak, [this] { leaks(); });
  }

 private:
  // What raises although a plain backward does not breaks the law as well.
  template <class F>
  void attempt(Fault fault, F f) {
    try {
      f();
    } catch (const FaultError& found) {
      report_.findings.push_back({found.fault, found.what()});
    } catch (const Error& error) {
      report_.findings.push_back({fault, fmt::format("raises: {}", error.what())});
    }
  }

  // Raises unless the gradients of one input are equal within the tolerance.
  void same(Fault fault, std::size_t i, const Tensor& got, const Tensor& expected, double tolerance,
            std::string_view what) const {
    const Values a = values(got), b = values(expected);
    std::size_t worst = a.size();
    double worst_error = -1;
    for (std::size_t e = 0; e < a.size(); ++e) {
      if (repeats(a[e], b[e], tolerance)) continue;
      double error = std::isnan(a[e] - b[e]) ? HUGE_VAL : std::abs(a[e] - b[e]);
      if (error > worst_error) worst = e;
      worst_error = std::max(error, worst_error);
    }
    if (worst < a.size())
      throw FaultError(fault, fmt::format("{}: the gradient of {} at {} is {:.10g}, expected {:.10g}", what, s_.name(i),
                                          index_of(got.shape(), static_cast<std::int64_t>(worst)), a[worst], b[worst]));
  }
  // `runs` is how many times over one run's deviation counts in either.
  void same(Fault fault, const Tensors& got, const Tensors& expected, std::string_view what, double runs = 1) const {
    for (std::size_t i = 0; i < got.size(); ++i)
      same(fault, i, got[i], expected[i],
           rounding_of(s_.xs[i]) * std::max(scale_[i], largest(expected[i])) + runs * s_.options.nondet_tol, what);
  }

  void reentrant() const {
    for (int times = 0; times < 2; ++times) {  // for what changes to and fro
      const Tensors again = s_.gradients(ys_, s_.v);
      for (std::size_t i = 0; i < again.size(); ++i)
        same(Fault::NotReentrant, i, again[i], first_[i], s_.options.nondet_tol,
             "not reentrant, a second backward through the graph differs from the first");
    }
  }

  void linear() const {
    Tensors zero, large, expected;
    for (const Tensor& v : s_.v) {
      zero.push_back(zeros_like(v));
      large.push_back(v * 1024);  // a power of two: all that is linear scales exactly
    }
    Tensors dx = s_.gradients(ys_, zero);
    for (std::size_t i = 0; i < dx.size(); ++i) {
      same(Fault::Cotangent, i, dx[i], zeros_like(dx[i]), 0, "backward does not multiply by a cotangent of 0");
      expected.push_back(first_[i] * 1024);
    }
    same(Fault::Cotangent, s_.gradients(ys_, large), expected, "backward is not linear in a cotangent, here 1024 times",
         1024);
  }

  void layouts() const {
    Tensors strided, expanded, plain;
    for (const Tensor& v : s_.v) {
      strided.push_back(strided_copy(v));
      expanded.push_back(views::expand(scalar(0.75, v.dtype()), v.shape()));
      plain.push_back(full(v.shape(), 0.75, v.dtype()));
    }
    same(Fault::Layout, s_.gradients(ys_, strided), first_, "backward of a cotangent that is not contiguous");
    same(Fault::Layout, s_.gradients(ys_, expanded), s_.gradients(ys_, plain), "backward of an expanded cotangent");
  }

  // Backward through some outputs is the sum of those through each, and the rest might as well have had zeros.
  void without_outputs() const {
    auto outputs = proper_subsets(ys_.size());
    outputs.emplace_back(ys_.size(), true);
    for (const std::vector<bool>& some : outputs) {
      Tensors ys, v, with_zeros = s_.v, sum;
      for (const Tensor& x : s_.xs) sum.push_back(zeros(x.shape(), x.dtype()));
      std::string names;
      for (std::size_t j = 0; j < ys_.size(); ++j) {
        if (!some[j]) {
          with_zeros[j] = zeros_like(s_.v[j]);
          names += fmt::format("{}{}", names.empty() ? "" : ", ", s_.y_index[j]);
          continue;
        }
        ys.push_back(ys_[j]);
        v.push_back(s_.v[j]);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + each_[j][i];
      }
      same(Fault::Undefined, s_.gradients(ys, v), sum,
           names.empty() ? "backward through all outputs at once is not the sum of backwards through each"
                         : fmt::format("backward when output {} has no gradient", names),
           static_cast<double>(ys_.size()));
      if (!names.empty())
        same(Fault::Undefined, s_.gradients(ys_, with_zeros), sum,
             fmt::format("backward when output {} has a gradient of zeros", names), static_cast<double>(ys_.size()));
    }
  }

  void create_graph() {
    try {
      same(Fault::CreateGraph, s_.gradients(ys_, s_.v, true), first_, "backward under create_graph");
    } catch (const GradError& error) {  // a gradient that says it cannot be recorded is no wrong one
      report_.notes.push_back(fmt::format("under create_graph, backward raises: {}", error.what()));
    }
  }

  void accumulation() const {
    Tensors ys, v;
    for (std::size_t j = 0; j < ys_.size(); ++j)
      if (ys_[j].requires_grad()) {
        ys.push_back(ys_[j]);
        v.push_back(s_.v[j]);
      }
    if (ys.empty()) return;
    for (int times = 0; times < 2; ++times) backward(ys, v, {.retain_graph = true, .inputs = s_.xs});
    Tensors got, expected;
    for (std::size_t i = 0; i < s_.xs.size(); ++i) {
      got.push_back(s_.xs[i].grad().defined() ? s_.xs[i].grad() : zeros_like(first_[i]));
      expected.push_back(first_[i] * 2);
    }
    for (const Tensor& x : s_.xs) x.set_grad({});
    same(Fault::Accumulation, got, expected, "two backwards do not add up in grad()", 2);
  }

  void subsets() const {
    for (const std::vector<bool>& some : proper_subsets(s_.xs.size())) {
      Requiring requiring(s_.xs, some);
      Tensors ys;
      try {
        ys = s_.run();
      } catch (const Error&) {
        continue;  // f takes derivatives itself, and of an input that does not require any now
      }
      std::string names;
      for (std::size_t i = 0; i < s_.xs.size(); ++i)
        if (s_.xs[i].requires_grad()) names += (names.empty() ? "" : ", ") + s_.name(i);
      for (std::size_t j = 0; j < ys.size(); ++j) {
        Values y = values(ys[j]);
        const double allowed = rounding_of(ys[j]) * largest(ys[j]);
        for (std::size_t k = 0; k < y.size(); ++k)
          require(repeats(y[k], s_.y0[j][k], allowed), Fault::Subset,
                  "when only {} require gradients, output {} is another one", names, s_.y_index[j]);
      }
      Tensors dx = s_.gradients(ys, s_.v);
      for (std::size_t i = 0; i < dx.size(); ++i)
        if (s_.xs[i].requires_grad())
          same(Fault::Subset, i, dx[i], first_[i], rounding_of(s_.xs[i]) * scale_[i] + s_.options.nondet_tol,
               fmt::format("when only {} require gradients", names));
    }
  }

  void leaks() const {
    auto left_behind = [this] {
      {
        Tensors ys = s_.run();
        s_.gradients(ys, s_.v);
        try {
          s_.gradients(ys, s_.v, s_.options.check_create_graph);
        } catch (const GradError&) {  // see create_graph
        }
      }
      return alloc::counters();
    };
    alloc::Counters first = left_behind(), second = left_behind();
    require(
        second.live_nodes <= first.live_nodes && second.live_tensors <= first.live_tensors, Fault::Leak,
        "a run leaves {} nodes and {} tensors behind; a gradient function that captures a tensor of its own op owns "
        "itself",
        second.live_nodes - first.live_nodes, second.live_tensors - first.live_tensors);
  }

  const Subject& s_;
  GradcheckReport& report_;
  Tensors ys_, first_;
  std::vector<Tensors> each_;  // gradients of each output alone
  Values scale_;               // the largest gradient of each input
};

}  // namespace

void check_laws(const Subject& subject, GradcheckReport& report) { Laws(subject, report).check_all(); }

}  // namespace unroll::detail
