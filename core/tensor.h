#pragma once
#include <unroll/core/detail/body.h>

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#pragma GCC visibility push(default)
namespace unroll {

struct BackwardOptions;
class GradHook;
class HookHandle;

/// What numbers in a program are. Every std::int64_t is among them, whichever of long and long long it is.
template <class T>
concept Literal = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, int> || std::same_as<T, long> ||
    std::same_as<T, long long> || std::same_as<T, bool>;

/// An n-dimensional array: a handle to shape, strides and shared memory. Copying the handle is cheap and shares the
/// elements.
///
/// Methods tell what a tensor is, write it in place (trailing underscore), and hold its side of differentiation;
/// everything that computes a new tensor is a free function: `tanh(x)`, `narrow(x, 0, 1, 2)`, `a + b`.
class Tensor {
 public:
  /// An undefined tensor: no shape, no elements. Only defined() may be asked of it.
  Tensor() noexcept = default;

  bool defined() const noexcept { return static_cast<bool>(body_); }
  const Shape& shape() const { return body().shape; }
  const Strides& strides() const { return body().strides; }
  std::int64_t dim() const { return static_cast<std::int64_t>(body().shape.size()); }
  /// The size of one dimension; negative ones count from the end.
  std::int64_t size(std::int64_t dim) const { return one_of("size", body().shape, dim); }
  std::int64_t stride(std::int64_t dim) const { return one_of("stride", body().strides, dim); }
  std::int64_t numel() const { return body().numel; }
  DType dtype() const { return body().dtype; }
  bool is_floating_point() const { return is_floating(body().dtype); }
  bool is_contiguous() const { return body().contiguous; }
  /// Whether it was made as a view (narrow, transpose, …) of another tensor.
  bool is_view() const { return body().is_view; }
  /// Whether both handles are the same tensor (not: equal elements).
  bool is_same(const Tensor& other) const noexcept { return body_ == other.body_; }
  bool shares_memory(const Tensor& other) const { return body().storage == other.body().storage; }
  /// How often the memory has been written in place, through whichever view.
  std::uint32_t version() const { return body().storage->version; }

  /// The first element; the others stand at multiples of strides(). Raises DTypeError when T is not the dtype.
  ///
  /// Whoever has the pointer may write at any time. So kernels make nothing of this memory that they keep from call to
  /// call: a weight whose pointer was asked for once is packed whenever it is used. copy_ and to_vector have no such
  /// price.
  template <Element T>
  T* data() const {
    body().storage->is_given_out.store(true, std::memory_order_relaxed);
    return raw<T>();
  }
  /// The value of a one-element tensor of any dtype, converted to T, a Literal. Raises ShapeError unless numel() = 1,
  /// ValueError for a number that an integer T cannot hold.
  template <Literal T = double>
  T item() const;
  /// All elements in row-major order. Raises DTypeError when T is not the dtype.
  template <Element T>
  std::vector<T> to_vector() const;

  // -- in place (autograd/ops/in_place.cpp), recorded like any op. Written through a view, the base and its other views
  // have the new elements and their gradients. Operands broadcast to this tensor's shape.
  //
  // Raises ValueError on an expanded tensor, whose elements share memory, and ShapeError when the result is larger.
  // While ops are recorded, raises GradError on a leaf that requires a gradient or a view of one, on what split, chunk
  // or unbind returned, and on a view made where nothing was recorded.
  const Tensor& fill_(double value) const;
  const Tensor& zero_() const;
  /// Copies the elements of `source`, converted to this dtype.
  const Tensor& copy_(const Tensor& source) const;
  /// this ← this + alpha · other
  const Tensor& add_(const Tensor& other, double alpha = 1) const;
  const Tensor& add_(double value) const;
  const Tensor& sub_(const Tensor& other) const;
  const Tensor& sub_(double value) const;
  const Tensor& mul_(const Tensor& other) const;
  const Tensor& mul_(double value) const;
  const Tensor& div_(const Tensor& other) const;
  const Tensor& div_(double value) const;
  /// this ← min(max(this, lowest), highest)
  const Tensor& clamp_(double lowest, double highest) const;
  const Tensor& exp_() const;
  const Tensor& relu_() const;
  const Tensor& sigmoid_() const;
  const Tensor& tanh_() const;

  // -- copies (autograd/ops/copy.cpp), recorded.
  /// A copy, row-major whatever the layout.
  Tensor clone() const;
  /// Itself when it is contiguous, else a row-major copy.
  Tensor contiguous() const;
  /// Itself when it has that dtype, else a converted copy. To Int64 numbers lose their fractions, and what is none of
  /// its numbers becomes an unspecified one, as in torch.
  Tensor to(DType dtype) const;

  // -- gradients (autograd/engine.cpp, autograd/tensor_grad.cpp)
  /// Whether a gradient can flow to it: it was told to, or was computed from such a tensor.
  bool requires_grad() const;
  /// Raises DTypeError when it is not floating, GradError to switch off a tensor that was computed (detach() it
  /// instead).
  const Tensor& requires_grad_(bool requires_grad = true) const;
  /// Not computed by a recorded op.
  bool is_leaf() const;
  /// The accumulated gradient, undefined before the first backward.
  Tensor grad() const;
  /// Replaces the gradient. Raises ShapeError or DTypeError unless `grad` is undefined or like this tensor, GradError
  /// for this tensor itself.
  void set_grad(const Tensor& grad) const;
  /// Keeps the gradient of a computed tensor as well. Raises GradError unless requires_grad().
  const Tensor& retain_grad() const;
  /// Calls `hook` on the gradient in every backward that computes it. See autograd/hooks.h. Raises GradError unless
  /// requires_grad().
  HookHandle register_hook(GradHook hook) const;
  /// Shares memory and version, has no history.
  Tensor detach() const;
  /// d(this)/d(leaf) for all leaves, added to their grad(). See autograd/engine.h for the options.
  void backward() const;
  void backward(const BackwardOptions& options) const;

  // -- for the library itself
  /// Like data(), for code that itself tells when it has written (kernels::wrote).
  template <Element T>
  T* raw() const {
    check<DTypeError>(dtype_of<T> == dtype(), "data: the tensor is {}, asked for as {}", dtype(), dtype_of<T>);
    return body().data<T>();
  }
  explicit Tensor(Ref<detail::Body> body) noexcept : body_(std::move(body)) {}
  detail::Body& body() const {
    if (!body_) [[unlikely]]
      detail::fail<ValueError>("expected a tensor, got an undefined one (as grad() is before backward)");
    return *body_;
  }
  /// Its gradient slot as of now: asking gives a view of what was written in place its new history.
  const detail::GradSlot* grad_slot() const {
    if (!body_) return nullptr;
    if (body_->is_outdated()) [[unlikely]]
      detail::follow_base(*body_);
    return body_->grad_slot.get();
  }

 private:
  static std::int64_t one_of(std::string_view op, const Shape& sizes, std::int64_t dim) {
    const auto d = static_cast<std::size_t>(dim < 0 ? dim + static_cast<std::int64_t>(sizes.size()) : dim);
    if (d < sizes.size()) [[likely]]
      return sizes[d];
    check<IndexError>(!sizes.empty(), "{}: a scalar has no dimension {}", op, dim);
    return sizes[wrap_dim(op, dim, sizes.size())];  // which raises
  }

  Ref<detail::Body> body_;
};

namespace detail {
/// The handle that takes over the count a body was made with.
inline Tensor adopted(Body* body) noexcept { return Tensor(Ref<Body>::adopt(body)); }
/// Of undefined value, with the shape of another one, whose sizes have been checked.
inline Tensor new_like(const Elements& like, DType dtype) { return adopted(new_body_like(like, dtype)); }
}  // namespace detail

/// A few tensors as an argument: `cat({a, b}, 1)`, a vector or a span. Refers to its source, so only ever a parameter.
class TensorList : public std::span<const Tensor> {
 public:
  TensorList(std::initializer_list<Tensor> list) : span(list.begin(), list.size()) {}
  TensorList(const std::vector<Tensor>& list) : span(list.data(), list.size()) {}
  TensorList(std::span<const Tensor> list) : span(list) {}
};

/// Tensors by name, in an order that matters: parameters, a state_dict, a file.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// -- Factories

template <class T>
concept Number = std::integral<T> || std::floating_point<T>;

namespace detail {
template <Number... T>
constexpr DType dtype_of_range = (std::floating_point<T> || ...) ? DType::Float32 : DType::Int64;
Tensor arange(double start, double end, double step, DType dtype);
Tensor arange(std::int64_t start, std::int64_t end, std::int64_t step, DType dtype);
/// Raises ValueError for an integer that To, being one, has not.
template <class To, Number T>
To bound_of_range(T value) {
  if constexpr (std::integral<To> && std::unsigned_integral<T>)
    check<ValueError>(fits<To>(value), "arange: {} is no int64", value);
  return static_cast<To>(value);
}
}  // namespace detail

/// Elements of undefined value; row-major, as all that follow, the _like ones whatever the layout of `like` (torch's
/// keep it). They raise ShapeError for a negative size or more than 2⁶³ − 1 elements, OutOfMemory for more than there
/// is room for.
Tensor empty(const Shape& shape, DType dtype = DType::Float32);
Tensor zeros(const Shape& shape, DType dtype = DType::Float32);
Tensor ones(const Shape& shape, DType dtype = DType::Float32);
/// In Int64 the value loses its fraction; raises ValueError where it is beyond int64.
Tensor full(const Shape& shape, double value, DType dtype = DType::Float32);
/// One element of rank 0.
Tensor scalar(double value, DType dtype = DType::Float32);
/// start, start + step, … below `end`: ceil((end − start) / step) elements. Of Int64 if all numbers given are integers,
/// else of Float32, unless a dtype is given. In Int64 start and step lose their fractions, but the count is the same.
/// Raises ValueError unless the step leads from start to end.
template <Number Start, Number End, Number Step = int>
Tensor arange(Start start, End end, Step step = 1, DType dtype = detail::dtype_of_range<Start, End, Step>) {
  using T = std::conditional_t<std::integral<Start> && std::integral<End> && std::integral<Step>, std::int64_t, double>;
  return detail::arange(detail::bound_of_range<T>(start), detail::bound_of_range<T>(end),
                        detail::bound_of_range<T>(step), dtype);
}
template <Number End>
Tensor arange(End end, DType dtype = detail::dtype_of_range<End>) {
  return arange(0, end, 1, dtype);
}
/// The n × n identity.
Tensor eye(std::int64_t n, DType dtype = DType::Float32);
inline Tensor empty_like(const Tensor& like) { return detail::new_like(like.body(), like.dtype()); }
Tensor zeros_like(const Tensor& like);
Tensor ones_like(const Tensor& like);
Tensor full_like(const Tensor& like, double value);

// To g++ the pragma above says nothing of what a template outside of a class is instantiated to.

/// A copy of `values` in row-major order; the dtype is T's. Raises ShapeError unless numel(shape) values came.
template <class T>
[[gnu::visibility("default")]] Tensor from_data(std::span<const T> values, const Shape& shape);
template <class T>
[[gnu::visibility("default")]] Tensor from_data(const std::vector<T>& values,
                                                const Shape& shape);  // std::vector<bool> included
/// The dtype that `tensor` gives to literals of type T.
template <Literal T>
constexpr DType dtype_of_literal = std::floating_point<T>  ? DType::Float32
                                   : std::same_as<T, bool> ? DType::Bool
                                                           : DType::Int64;
/// `tensor({1.5, 2.0})`, `tensor({{1.0, 2.0}, {3.0, 4.0}})`, `tensor({0, 2, 1})`: reals become Float32 unless a dtype
/// is given, integers Int64. T is deduced: a Literal, one for all elements.
template <Literal T>
[[gnu::visibility("default")]] Tensor tensor(std::initializer_list<T> values, DType dtype = dtype_of_literal<T>);
template <Literal T>
[[gnu::visibility("default")]] Tensor tensor(std::initializer_list<std::initializer_list<T>> rows,
                                             DType dtype = dtype_of_literal<T>);

}  // namespace unroll
#pragma GCC visibility pop
