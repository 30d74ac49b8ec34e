#pragma once
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/node.h>
#include <unroll/core/generator.h>

#include <cmath>
#include <span>

/// What the parts of gradcheck share.
namespace unroll::detail {

using Tensors = std::vector<Tensor>;
using Values = std::vector<double>;

/// All elements in row-major order, as double.
Values values(const Tensor& x);
/// y's shape and dtype, 1 at its k-th element in row-major order and else 0.
Tensor one_hot_like(const Tensor& y, std::int64_t k);
/// NaN is close to nothing; what is equal, infinities too, is close. An infinity is far from every number, also where
/// it made the tolerance infinite.
inline bool close(double a, double b, double tolerance) {
  return a == b || (std::abs(a - b) <= tolerance && std::isfinite(a - b));
}
/// Of two runs: what was NaN and is again has been repeated.
inline bool repeats(double a, double b, double tolerance) {
  return close(a, b, tolerance) || (std::isnan(a) && std::isnan(b));
}
/// The largest magnitude of those that are finite.
double largest(const Values& numbers);

/// GradcheckError that knows what it found.
class FaultError : public GradcheckError {
 public:
  FaultError(GradcheckFault what_is_wrong, const std::string& text) : GradcheckError(text), fault(what_is_wrong) {}
  GradcheckFault fault;
};
template <class... Args>
void require(bool ok, GradcheckFault fault, fmt::format_string<const Args&...> text, const Args&... args) {
  if (!ok) throw FaultError(fault, fmt::format(text, args...));
}

/// Inputs that a check has for the time of a scope. Each gets a gradient slot of its own, so that grad() and history
/// are not touched; a computed input acts as a leaf.
class Lent {
 public:
  explicit Lent(const Tensors& inputs);
  ~Lent();
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  /// Makes float64 tensors of the float32 ones, where they are.
  void to_float64();

 private:
  struct Kept {
    Tensor x;
    Ref<GradSlot> slot;
    Ref<Storage> storage;  // and what follows, once it is converted
    Strides strides = {};
    std::int64_t offset = 0;
    bool contiguous = false;
  };
  std::vector<Kept> kept_;
};

/// The default generator, given back at the end of the scope as it was.
class KeptGenerator {
 public:
  KeptGenerator() : before_(default_generator()) {}
  ~KeptGenerator() { default_generator() = before_; }
  KeptGenerator(const KeptGenerator&) = delete;
  KeptGenerator& operator=(const KeptGenerator&) = delete;
  void restart() const { default_generator() = before_; }

 private:
  Generator before_;
};

/// Elements of x, at `offsets` from its first, moved for the time of a scope and behind the version counter: what f
/// saves of x stays valid.
class Moved {
 public:
  Moved(const Tensor& x, std::span<const std::int64_t> offsets, std::span<const double> by);
  ~Moved();
  Moved(const Moved&) = delete;
  Moved& operator=(const Moved&) = delete;

 private:
  const Tensor& x_;
  std::span<const std::int64_t> offsets_;
  Values before_;
  bool was_given_out_;
};

/// Of f itself and those of its outputs that are looked at: the ones that require a gradient, or all when none does.
struct Subject {
  /// With every_output, those that do not require a gradient must be constant.
  Subject(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options,
          const GradcheckLabels& labels, bool every_output);
  /// The looked-at outputs of another run. Raises FaultError when number, shapes or dtypes are not what they were.
  Tensors run() const;
  /// d Σ v·y / dx for each x, zero where there is no way; of all outputs that require a gradient.
  Tensors gradients(const Tensors& outputs, const Tensors& cotangents, bool create_graph = false) const;
  /// Raises FaultError where an input, or its version, is not what it was before the first run.
  void check_unchanged() const;
  std::string name(std::size_t x) const;

  const CheckedFunction& f;
  const GradcheckOptions& options;
  const GradcheckLabels& labels;
  Tensors inputs;
  Tensors xs;                                      // the inputs that require a gradient
  std::vector<std::size_t> x_index;                // their places among all
  std::vector<std::vector<std::int64_t>> offsets;  // of their elements
  std::vector<Values> x0;                          // these, and the versions, before the first run
  std::vector<std::uint32_t> x0_version;
  Tensors ys;
  std::vector<std::size_t> y_index;
  std::size_t output_count = 0;
  bool any_gradient = false;
  Tensors v;                   // a random cotangent an output
  std::vector<Values> y0, v0;  // elements of ys and v
  KeptGenerator generator;
};

/// How an element came out.
enum class Outcome : std::uint8_t { Right, Wrong, Skipped };

/// Derivatives of v·y for each output y by the elements of one input: [output][element].
struct Comparison {
  std::vector<Values> analytic, numeric, uncertainty;
  std::vector<std::vector<Outcome>> outcome;
  Values magnitude;  // of each output: Σ |v·y|, what rounding errors are relative to
};

/// Compares the analytic derivatives [output] by input number x with numeric ones, element by element.
Comparison compare_elements(const Subject& subject, std::size_t x, std::vector<Values> analytic);
/// The same along three random directions, which take the place of elements.
Comparison compare_directions(const Subject& subject, std::size_t x, const std::vector<Values>& analytic);
/// The element of output number y whose derivative by that element is most wrong, looked for one by one.
GradcheckPair locate(const Subject& subject, std::size_t x, std::int64_t element, std::size_t y);

/// Analytic derivatives of v·y: [input][output].
std::vector<std::vector<Values>> analytic_values(const Subject& subject);

/// Whether too few elements could be measured to say that a gradient is right: one in twenty is missing.
inline bool too_many(std::int64_t skipped, std::int64_t elements) { return skipped * 20 > elements; }

/// Whether all are the same to the bit, NaNs too.
bool same_bits(const Values& a, const Values& b);

/// Raises FaultError unless the function gives the same values twice and leaves its inputs as they are.
void check_deterministic(const Subject& subject);

/// What holds of every gradient, whatever its value.
void check_laws(const Subject& subject, GradcheckReport& report);

/// torch.autograd.gradcheck; raises FaultError.
void torch_gradcheck(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options);

/// What the pattern of wrong rows usually comes from.
std::vector<std::string> gradcheck_hints(const std::vector<GradcheckRow>& rows, const GradcheckLabels& labels);

/// The comparisons alone, [input], for what looks at them in another way.
std::vector<Comparison> compare_all(const Subject& subject);

}  // namespace unroll::detail
