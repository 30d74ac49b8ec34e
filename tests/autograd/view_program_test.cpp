// Random programs of ops, views and in-place writes, run twice: by the library, where views share memory, and by an
// oracle that has neither views nor in-place ops. There a memory is one flat tensor, a view is a list of positions in
// it, and a write makes a new flat tensor with out-of-place ops. Values, gradients, second derivatives and refusals
// must agree; what backward may raise is that a tensor it needs was written.
#include "support/memory.h"
#include "support/sanitized.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unroll/unroll.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <sstream>

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

// splitmix64: a program costs a few microseconds, and mt19937 would cost that much to seed.
struct Dice {
  std::uint64_t state;
  std::uint64_t next() {
    std::uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n)); }
  std::int64_t between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }
  double real() { return static_cast<double>(between(-1000, 1000)) / 500; }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<std::size_t>(below(static_cast<std::int64_t>(from.size())))];
  }
};

Tensor constant(const Shape& shape, Dice& dice) {
  Tensor x = empty(shape, DType::Float64);
  for (double *p = x.data<double>(), *end = p + x.numel(); p != end; ++p) *p = dice.real();
  return x;
}

// The oracle's side of a tensor.
struct Place {
  std::size_t memory;
  Tensor positions;          // Int64, of the tensor's shape
  bool is_window = false;    // made under NoGrad: reads constants, and what is written through it is constant
  bool is_hidden = false;    // such a view of what required a gradient
  bool is_piece = false;     // returned by unbind, split or chunk
  bool is_repeated = false;  // by expand
};

struct Variable {
  Tensor tensor;
  Place place;
};

struct Memory {
  Tensor flat;
  bool is_leaf;
};

enum class Refusal { None, Grad, Value, Shape };

struct Outcome {
  std::string difference;  // empty: both agree
  int writes = 0, refused = 0;
  bool ran_backward = false, stale = false;
};

class Program {
 public:
  Program(std::uint64_t seed, std::ostream* listing) : dice_{seed}, listing_(listing) {}

  Outcome run(int steps) {
    setup();
    for (int step = 0; step < steps && outcome_.difference.empty(); ++step) {
      std::int64_t kind = dice_.below(100);
      if (kind < 35)
        make_view();
      else if (kind < 55)
        compute();
      else
        write();
    }
    if (outcome_.difference.empty()) compare();
    return outcome_;
  }

 private:
  // -- the oracle
  Tensor read(const Place& place) const {
    Tensor flat = memories_[place.memory].flat;
    if (place.is_window) flat = flat.detach();
    return reshape(index_select(flat, 0, reshape(place.positions, -1)), place.positions.shape());
  }
  std::size_t new_memory(const Tensor& flat, bool is_leaf = false) {
    memories_.push_back({flat, is_leaf});
    return memories_.size() - 1;
  }
  void write(const Place& place, const Tensor& value, bool constant) {
    GradMode recording(true);  // what was written under NoGrad keeps the history it had
    Tensor& flat = memories_[place.memory].flat;
    const std::int64_t n = flat.numel();
    Tensor from = arange(n);
    Tensor positions = place.positions.contiguous();
    for (std::int64_t j = 0; j < positions.numel(); ++j)
      from.data<std::int64_t>()[positions.data<std::int64_t>()[j]] = n + j;
    Tensor changed = index_select(cat({flat, reshape(value, -1)}), 0, from);
    flat = constant ? record("as if never written", {flat}, changed.detach().clone(), unchanged) : changed;
  }

  // -- both sides
  template <class... Args>
  void list(fmt::format_string<Args...> text, Args&&... args) {
    if (listing_) *listing_ << "  " << fmt::format(text, std::forward<Args>(args)...) << '\n';
  }
  void differ(std::string text) {
    if (outcome_.difference.empty()) outcome_.difference = std::move(text);
  }
  std::size_t add(Tensor tensor, Place place) {
    variables_.push_back({std::move(tensor), std::move(place)});
    return variables_.size() - 1;
  }
  std::size_t add_computed(const Tensor& tensor, const Tensor& value) {
    return add(tensor, {new_memory(reshape(value, -1)), reshape(arange(value.numel()), value.shape())});
  }
  // Of two, the later one: what is new is used.
  std::size_t any() {
    auto n = static_cast<std::int64_t>(variables_.size());
    return static_cast<std::size_t>(std::max(dice_.below(n), dice_.below(n)));
  }
  Shape any_shape() {
    Shape shape(static_cast<std::size_t>(dice_.between(1, 3)), 1);
    for (std::int64_t& size : shape) size = dice_.between(1, 3);
    return shape;
  }

  void setup() {
    for (int i = 0; i < 2; ++i) {
      Tensor x = constant(any_shape(), dice_);
      Tensor y = reshape(x.clone(), -1).clone();
      leaves_.push_back(x.requires_grad_());
      oracle_leaves_.push_back(y.requires_grad_());
      std::size_t v = add(x, {new_memory(y, true), reshape(arange(x.numel()), x.shape())});
      list("v{} = leaf of shape {}", v, x.shape());
      double factor = dice_.real();
      v = add_computed(x * factor, reshape(y, x.shape()) * factor);
      list("v{} = v{} * {}", v, v - 1, factor);
    }
    Tensor plain = constant(any_shape(), dice_);
    std::size_t v = add_computed(plain, plain.clone());
    list("v{} = constant of shape {}", v, plain.shape());
  }

  void make_view() {
    const std::size_t from = any();
    const Variable x = variables_[from];
    const Shape& shape = x.tensor.shape();
    const bool no_grad = dice_.chance(5);
    const std::int64_t dim = shape.empty() ? 0 : dice_.below(x.tensor.dim());
    const std::int64_t size = shape.empty() ? 0 : shape[static_cast<std::size_t>(dim)];
    const std::int64_t at = size > 0 ? dice_.below(size) : 0;
    std::string name;
    std::function<Tensors(const Tensor&)> view;
    bool is_piece = false, repeats = false;
    switch (dice_.below(9)) {
      case 0:
        if (size == 0) return;
        name = fmt::format("select({}, {})", dim, at);
        view = [=](const Tensor& t) { return Tensors{select(t, dim, at)}; };
        break;
      case 1:
        if (size == 0) return;
        name = fmt::format("narrow({}, {}, {})", dim, at, size - at);
        view = [=](const Tensor& t) { return Tensors{narrow(t, dim, at, size - at)}; };
        break;
      case 2:
        if (size == 0) return;
        name = fmt::format("slice({}, {}, {}, 2)", dim, at, size);
        view = [=](const Tensor& t) { return Tensors{slice(t, dim, at, size, 2)}; };
        break;
      case 3: {
        if (size == 0) return;
        std::int64_t other = dice_.below(x.tensor.dim());
        name = fmt::format("transpose({}, {})", dim, other);
        view = [=](const Tensor& t) { return Tensors{transpose(t, dim, other)}; };
        break;
      }
      case 4: {
        Shape sizes = dice_.chance(50) ? Shape(-1) : Shape({1, -1});
        if (!views::viewable(x.tensor, views::infer_shape("view", x.tensor, sizes))) return;
        name = fmt::format("view({})", sizes);
        view = [=](const Tensor& t) { return Tensors{unroll::view(t, sizes)}; };
        break;
      }
      case 5:
        if (shape.size() > 3) return;
        name = fmt::format("unsqueeze({})", dim);
        view = [=](const Tensor& t) { return Tensors{unsqueeze(t, dim)}; };
        break;
      case 6:
        name = "squeeze()";
        view = [](const Tensor& t) { return Tensors{squeeze(t)}; };
        break;
      case 7: {
        if (shape.size() > 3) return;
        Shape sizes = shape;
        for (std::int64_t& s : sizes)
          if (s == 1 && dice_.chance(50)) s = 2;
        if (dice_.chance(40)) sizes.insert(0, 2);
        name = fmt::format("expand({})", sizes);
        view = [=](const Tensor& t) { return Tensors{expand(t, sizes)}; };
        repeats = numel(sizes) > x.tensor.numel();
        break;
      }
      default:
        if (size == 0) return;
        is_piece = true;
        if (dice_.chance(50)) {
          name = fmt::format("unbind({})", dim);
          view = [=](const Tensor& t) { return unbind(t, dim); };
        } else {
          name = fmt::format("split(2, {})", dim);
          view = [=](const Tensor& t) { return split(t, 2, dim); };
        }
    }
    GradMode mode(!no_grad);
    Tensors tensors = view(x.tensor), positions = view(x.place.positions);
    const Place& p = x.place;
    for (std::size_t i = 0; i < std::min<std::size_t>(tensors.size(), 2); ++i) {
      // Repeated once, a view may be none again: select takes one of what expand repeats.
      bool repeated = p.is_repeated || repeats;
      if (repeated) repeated = has_doubles(positions[i]);
      Place place{p.memory,    positions[i].clone(),   p.is_window || no_grad,
                  p.is_hidden, p.is_piece || is_piece, repeated};
      if (place.is_window && no_grad) place.is_hidden |= x.tensor.requires_grad();
      std::size_t v = add(tensors[i], place);
      list("v{} = v{}.{}{}{}", v, from, name, tensors.size() > 1 ? fmt::format("[{}]", i) : "",
           no_grad ? " under NoGrad" : "");
    }
  }
  static bool has_doubles(const Tensor& positions) {
    std::uint64_t seen = 0;
    for (std::int64_t p : positions.to_vector<std::int64_t>()) {
      if (seen >> p & 1) return true;
      seen |= std::uint64_t{1} << p;
    }
    return false;
  }

  void compute() {
    const std::size_t i = any(), j = any();
    const Tensor a = variables_[i].tensor, b = variables_[j].tensor;
    using F = std::function<Tensor(const Tensor&, const Tensor&)>;
    static const std::vector<std::pair<const char*, F>> one = {
        {"tanh", [](auto& x, auto&) { return tanh(x); }},    {"sigmoid", [](auto& x, auto&) { return sigmoid(x); }},
        {"sin", [](auto& x, auto&) { return sin(x); }},      {"relu", [](auto& x, auto&) { return relu(x); }},
        {"clone", [](auto& x, auto&) { return x.clone(); }}, {"negative", [](auto& x, auto&) { return -x; }},
        {"plus 1", [](auto& x, auto&) { return x + 1; }},    {"times 0.75", [](auto& x, auto&) { return x * 0.75; }},
        {"sum 0", [](auto& x, auto&) { return sum(x, 0); }}, {"softmax", [](auto& x, auto&) { return softmax(x, 0); }},
    };
    static const std::vector<std::pair<const char*, F>> two = {
        {"+", [](auto& x, auto& y) { return x + y; }},
        {"-", [](auto& x, auto& y) { return x - y; }},
        {"* sin", [](auto& x, auto& y) { return x * sin(y); }},
        {"bounded *", [](auto& x, auto& y) { return tanh(x * y); }},
    };
    bool binary = dice_.chance(40) && broadcasts(a.shape(), b.shape());
    const auto& [name, f] = dice_.pick(binary ? two : one);
    if (a.numel() > 40 || b.numel() > 40) return;
    std::size_t v = add_computed(f(a, b), f(read(variables_[i].place), read(variables_[j].place)));
    if (binary)
      list("v{} = v{} {} v{}", v, i, name, j);
    else
      list("v{} = {} of v{}", v, name, i);
  }
  static bool broadcasts(const Shape& a, const Shape& b) {
    for (std::size_t k = 1; k <= std::min(a.size(), b.size()); ++k) {
      std::int64_t x = a[a.size() - k], y = b[b.size() - k];
      if (x != y && x != 1 && y != 1) return false;
    }
    return true;
  }

  struct Write {
    const char* name;
    bool has_operand;
    std::function<void(const Tensor& x, const Tensor& y)> in_place;
    std::function<Tensor(const Tensor& x, const Tensor& y)> plain;
  };
  static const std::vector<Write>& all_writes() {
    // What divides stays away from 0.
    static const std::vector<Write> writes = {
        {"fill_(0.5)", false, [](auto& x, auto&) { x.fill_(0.5); }, [](auto& x, auto&) { return full_like(x, 0.5); }},
        {"zero_()", false, [](auto& x, auto&) { x.zero_(); }, [](auto& x, auto&) { return zeros_like(x); }},
        {"copy_", true, [](auto& x, auto& y) { x.copy_(y); }, [](auto& x, auto& y) { return y + zeros_like(x); }},
        {"add_", true, [](auto& x, auto& y) { x.add_(y); }, [](auto& x, auto& y) { return x + y; }},
        {"add_ -0.5", true, [](auto& x, auto& y) { x.add_(y, -0.5); }, [](auto& x, auto& y) { return x - 0.5 * y; }},
        {"add_(2)", false, [](auto& x, auto&) { x.add_(2); }, [](auto& x, auto&) { return x + 2; }},
        {"sub_", true, [](auto& x, auto& y) { x.sub_(y); }, [](auto& x, auto& y) { return x - y; }},
        {"mul_(-0.5)", false, [](auto& x, auto&) { x.mul_(-0.5); }, [](auto& x, auto&) { return x * -0.5; }},
        {"mul_", true, [](auto& x, auto& y) { x.mul_(y).tanh_(); }, [](auto& x, auto& y) { return tanh(x * y); }},
        {"div_(2)", false, [](auto& x, auto&) { x.div_(2); }, [](auto& x, auto&) { return x / 2; }},
        {"div_", true, [](auto& x, auto& y) { x.div_(sin(y) + 2); }, [](auto& x, auto& y) { return x / (sin(y) + 2); }},
        {"clamp_", false, [](auto& x, auto&) { x.clamp_(-0.9, 0.9); },
         [](auto& x, auto&) { return clamp(x, -0.9, 0.9); }},
        {"relu_", false, [](auto& x, auto&) { x.relu_(); }, [](auto& x, auto&) { return relu(x); }},
        {"tanh_", false, [](auto& x, auto&) { x.tanh_(); }, [](auto& x, auto&) { return tanh(x); }},
        {"sigmoid_", false, [](auto& x, auto&) { x.sigmoid_(); }, [](auto& x, auto&) { return sigmoid(x); }},
    };
    return writes;
  }

  Refusal expected_refusal(const Variable& x, const Variable* y, bool no_grad) const {
    const Place& p = x.place;
    if (y) {
      if (!broadcasts(x.tensor.shape(), y->tensor.shape())) return Refusal::Shape;
      if (broadcast("", x.tensor.shape(), y->tensor.shape()) != x.tensor.shape()) return Refusal::Shape;
    }
    if (p.is_repeated) return Refusal::Value;
    if (no_grad) return Refusal::None;
    const Memory& memory = memories_[p.memory];
    if (p.is_window) return p.is_hidden || (y && requires_grad(y->place)) ? Refusal::Grad : Refusal::None;
    if (memory.is_leaf) return Refusal::Grad;
    bool recorded = requires_grad(p) || (y && requires_grad(y->place));
    return recorded && p.is_piece ? Refusal::Grad : Refusal::None;
  }
  bool requires_grad(const Place& p) const { return !p.is_window && memories_[p.memory].flat.requires_grad(); }

  void write() {
    const std::size_t i = any();
    std::size_t j = any();
    const Variable x = variables_[i];
    for (int tries = 0; tries < 3 && !broadcasts(x.tensor.shape(), variables_[j].tensor.shape()); ++tries) j = any();
    const Variable y = variables_[j];
    const bool no_grad = dice_.chance(8);
    const Write& w = dice_.pick(all_writes());
    if (std::max(x.tensor.numel(), y.tensor.numel()) > 40) return;
    list("v{}.{}{}{}", i, w.name, w.has_operand ? fmt::format("(v{})", j) : "", no_grad ? " under NoGrad" : "");
    GradMode mode(!no_grad);
    const Refusal expected = expected_refusal(x, w.has_operand ? &y : nullptr, no_grad);
    Refusal got = Refusal::None;
    std::string text;
    try {
      w.in_place(x.tensor, y.tensor);
    } catch (const GradError& e) {
      got = Refusal::Grad, text = e.what();
    } catch (const ValueError& e) {
      got = Refusal::Value, text = e.what();
    } catch (const ShapeError& e) {
      got = Refusal::Shape, text = e.what();
    }
    ++outcome_.writes;
    if (got != expected) return differ(fmt::format("refusal {}, expected {}: {}", int(got), int(expected), text));
    if (got != Refusal::None) {
      ++outcome_.refused;
      list("  refused");
      return;
    }
    write(x.place, w.plain(read(x.place), read(y.place)), no_grad || x.place.is_window);
  }

  // Sums of some variables with fixed weights; the same for both sides.
  void compare() {
    Tensor loss, expected_loss;
    for (std::size_t v = 0; v < variables_.size(); ++v) {
      const auto& [x, place] = variables_[v];
      const Tensor expected = read(place);
      if (x.requires_grad() != requires_grad(place))
        return differ(fmt::format("v{}.requires_grad() is {}", v, x.requires_grad()));
      if (!allclose(x.detach(), expected.detach(), 1e-9, 1e-9)) return differ(fmt::format("values of v{}", v));
      if (!x.requires_grad() || !dice_.chance(60)) continue;
      Tensor weights = constant(x.shape(), dice_);
      Tensor part = sum(x * weights), expected_part = sum(expected * weights);
      loss = loss.defined() ? loss + part : part;
      expected_loss = expected_loss.defined() ? expected_loss + expected_part : expected_part;
      list("loss += (v{} * weights).sum()", v);
    }
    if (!loss.defined()) return;
    const bool twice = dice_.chance(25);
    outcome_.ran_backward = true;
    std::optional<Tensors> got;
    try {
      got = gradients(loss, leaves_, twice);
    } catch (const GradError& e) {
      if (std::string_view(e.what()).find("modified in place by") == std::string_view::npos) return differ(e.what());
      outcome_.stale = true;
      return;
    }
    Tensors expected = gradients(expected_loss, oracle_leaves_, twice);
    for (std::size_t k = 0; k < expected.size(); ++k) {
      const Tensor flat = reshape((*got)[k].detach(), -1);
      if (!allclose(flat, expected[k].detach(), 1e-8, 1e-8))
        return differ(fmt::format("gradient {} is {}, expected {}", k, flat, expected[k].detach()));
    }
  }
  static Tensors gradients(const Tensor& loss, const Tensors& leaves, bool twice) {
    auto first = [&](const Tensor& y, bool create_graph) {
      Tensors g = grad({y}, leaves, {.retain_graph = true, .create_graph = create_graph, .allow_unused = true});
      for (std::size_t i = 0; i < g.size(); ++i)
        if (!g[i].defined()) g[i] = zeros_like(leaves[i]);
      return g;
    };
    Tensors g = first(loss, twice);
    if (!twice) return g;
    Tensor length = sum(g[0] * g[0]) + sum(g[1] * g[1]);
    if (length.requires_grad())
      for (const Tensor& h : first(length, false)) g.push_back(h);
    else
      for (const Tensor& x : leaves) g.push_back(zeros_like(x));
    return g;
  }

  Dice dice_;
  std::ostream* listing_;
  std::vector<Variable> variables_;
  std::vector<Memory> memories_;
  Tensors leaves_, oracle_leaves_;
  Outcome outcome_;
};

Outcome run(std::uint64_t seed, int steps, std::ostream* listing = nullptr) {
  const Live before;
  Outcome outcome = Program(seed, listing).run(steps);
  if (outcome.difference.empty() && Live() != before) outcome.difference = "memory stays behind";
  return outcome;
}

constexpr int kSteps = 14;

// The shortest beginning of the program that fails, as text.
std::string failing_program(std::uint64_t seed) {
  for (int steps = 1; steps <= kSteps; ++steps) {
    std::ostringstream listing;
    if (std::string difference = run(seed, steps, &listing).difference; !difference.empty())
      return fmt::format("program {}:\n{}{}", seed, listing.str(), difference);
  }
  return fmt::format("program {} does not fail again", seed);
}

}  // namespace

TEST_CASE("random programs of views and in-place ops equal an oracle that copies everything") {
  const char* wanted = std::getenv("UNROLL_VIEW_PROGRAMS");
  const std::uint64_t programs = wanted ? std::strtoull(wanted, nullptr, 10) : kSanitized ? 5'000 : 50'000;
  std::uint64_t writes = 0, refused = 0, backwards = 0, stale = 0;
  int failures = 0;
  for (std::uint64_t seed = 0; seed < programs && failures < 3; ++seed) {
    Outcome outcome = run(seed, kSteps);
    writes += static_cast<std::uint64_t>(outcome.writes);
    refused += static_cast<std::uint64_t>(outcome.refused);
    backwards += outcome.ran_backward;
    stale += outcome.stale;
    if (outcome.difference.empty()) continue;
    ++failures;
    FAIL_CHECK(failing_program(seed));
  }
  MESSAGE(programs, " programs, ", writes, " writes, of which ", refused, " refused as expected; ", backwards,
          " backward passes, of which ", stale, " met a tensor that had been written");
  CHECK(refused < writes / 2);
  CHECK(backwards > programs / 2);
  CHECK(stale < backwards / 2);
}
