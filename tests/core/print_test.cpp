#include <doctest/doctest.h>
#include <unroll/core/print.h>
#include <unroll/core/view.h>

#include <iomanip>
#include <limits>
#include <locale>
#include <sstream>

using namespace unroll;

namespace {
constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
}

// What PyTorch 2.15 prints, with true and float64 for its True and torch.float64.

TEST_CASE("print: reals share one form and one width") {
  CHECK(to_string(tensor({{.49625659, .7682218}, {.08847743, -13.2}})) ==
        "tensor([[  0.4963,   0.7682],\n"
        "        [  0.0885, -13.2000]])");
  CHECK(to_string(tensor({1., -20., 300.})) == "tensor([  1., -20., 300.])");
  CHECK(to_string(tensor({.001, 1.})) == "tensor([0.0010, 1.0000])");
  CHECK(to_string(tensor({.5, 500.})) == "tensor([  0.5000, 500.0000])");
  CHECK(to_string(tensor({.001, 2.})) == "tensor([1.0000e-03, 2.0000e+00])");  // more than 1000 apart
  CHECK(to_string(tensor({2e8, 3e8})) == "tensor([2.0000e+08, 3.0000e+08])");
  CHECK(to_string(tensor({5e-5, 6e-5})) == "tensor([5.0000e-05, 6.0000e-05])");
  CHECK(to_string(tensor({1e-300, -1e300}, DType::Float64)) == "tensor([ 1.0000e-300, -1.0000e+300], dtype=float64)");
}

TEST_CASE("print: zero, infinity and NaN") {
  CHECK(to_string(zeros({3})) == "tensor([0., 0., 0.])");
  CHECK(to_string(tensor({kInf, -1.5, kNan, 0.})) == "tensor([    inf, -1.5000,     nan,  0.0000])");
  CHECK(to_string(tensor({kInf, -kInf, kNan, 2.})) == "tensor([inf, -inf, nan, 2.])");
  CHECK(to_string(tensor({kInf, -kNan, -0.})) == "tensor([inf, nan, -0.])");
}

TEST_CASE("print: integers and bools") {
  CHECK(to_string(tensor({{1, -200}, {30, 4}})) ==
        "tensor([[   1, -200],\n"
        "        [  30,    4]])");
  CHECK(to_string(from_data(std::vector<std::int64_t>{std::int64_t{1} << 62, -1}, {1, 2})) ==
        "tensor([[4611686018427387904,                  -1]])");
  CHECK(to_string(tensor({true, false})) == "tensor([ true, false])");
}

TEST_CASE("print: scalars") {
  CHECK(to_string(scalar(3.5)) == "tensor(3.5000)");
  CHECK(to_string(scalar(3)) == "tensor(3.)");
  CHECK(to_string(scalar(1e10)) == "tensor(1.0000e+10)");
  CHECK(to_string(scalar(7, DType::Int64)) == "tensor(7)");
  CHECK(to_string(scalar(1, DType::Bool)) == "tensor(true)");
  CHECK(to_string(Tensor()) == "tensor(undefined)");
}

TEST_CASE("print: brackets and lines") {
  CHECK(to_string(arange(30)) ==
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])");
  CHECK(to_string(views::view(arange(8, DType::Float32), {2, 2, 2})) ==
        "tensor([[[0., 1.],\n"
        "         [2., 3.]],\n"
        "\n"
        "        [[4., 5.],\n"
        "         [6., 7.]]])");
  CHECK(to_string(views::view(arange(4, DType::Float32), {2, 1, 2, 1})) ==
        "tensor([[[[0.],\n"
        "          [1.]]],\n"
        "\n"
        "\n"
        "        [[[2.],\n"
        "          [3.]]]])");
  CHECK(to_string(views::transpose(views::view(arange(6), {2, 3}), 0, 1)) ==
        "tensor([[0, 3],\n"
        "        [1, 4],\n"
        "        [2, 5]])");
  CHECK(to_string(ones(Shape(8, 1))) == "tensor([[[[[[[[1.]]]]]]]])");
}

TEST_CASE("print: of more than 1000 elements, three from each end of every long dimension") {
  std::string whole = to_string(arange(1000));
  CHECK(whole.find("...") == std::string::npos);
  CHECK(whole.find("500, 501") != std::string::npos);
  CHECK(to_string(arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])");
  CHECK(to_string(views::view(arange(1800), {9, 200})) ==
        "tensor([[   0,    1,    2,  ...,  197,  198,  199],\n"
        "        [ 200,  201,  202,  ...,  397,  398,  399],\n"
        "        [ 400,  401,  402,  ...,  597,  598,  599],\n"
        "        ...,\n"
        "        [1200, 1201, 1202,  ..., 1397, 1398, 1399],\n"
        "        [1400, 1401, 1402,  ..., 1597, 1598, 1599],\n"
        "        [1600, 1601, 1602,  ..., 1797, 1798, 1799]])");
  CHECK(to_string(views::view(arange(2400), {2, 2, 600})) ==
        "tensor([[[   0,    1,    2,  ...,  597,  598,  599],\n"
        "         [ 600,  601,  602,  ..., 1197, 1198, 1199]],\n"
        "\n"
        "        [[1200, 1201, 1202,  ..., 1797, 1798, 1799],\n"
        "         [1800, 1801, 1802,  ..., 2397, 2398, 2399]]])");
  CHECK(to_string(views::view(arange(1200), {6, 200})).find("\n        ...,") ==
        std::string::npos);  // six are not long
  Tensor hidden = zeros({2000});
  hidden.data<float>()[1000] = .5;  // what is left out has no say in the form
  CHECK(to_string(hidden) == "tensor([0., 0., 0.,  ..., 0., 0., 0.])");
}

TEST_CASE("print: what the elements do not tell") {
  CHECK(to_string(zeros({0})) == "tensor([])");
  CHECK(to_string(zeros({2, 0})) == "tensor([], size=(2, 0))");
  CHECK(to_string(zeros({0}, DType::Int64)) == "tensor([], dtype=int64)");
  CHECK(to_string(zeros({0, 3}, DType::Float64)) == "tensor([], size=(0, 3), dtype=float64)");
  CHECK(to_string(ones({1}, DType::Float64)) == "tensor([1.], dtype=float64)");
  auto halves = [](std::int64_t n) { return (arange(.5, static_cast<double>(n), 1, DType::Float32)).requires_grad_(); };
  CHECK(to_string(halves(6)) == "tensor([0.5000, 1.5000, 2.5000, 3.5000, 4.5000, 5.5000], requires_grad=true)");
  CHECK(to_string(halves(7)) ==
        "tensor([0.5000, 1.5000, 2.5000, 3.5000, 4.5000, 5.5000, 6.5000],\n"
        "       requires_grad=true)");
  CHECK(to_string(ones({12}).requires_grad_()).find('\n') == std::string::npos);
  CHECK(to_string(ones({13}).requires_grad_()).find('\n') != std::string::npos);
  CHECK(to_string(halves(1).clone()) == "tensor([0.5000], grad_fn=<clone>)");
  CHECK(to_string(ones({1}, DType::Float64).requires_grad_()) == "tensor([1.], dtype=float64, requires_grad=true)");
}

TEST_CASE("print: into streams and fmt, whatever the locale") {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '\''; }
    std::string do_grouping() const override { return "\3"; }
  };
  std::locale comma(std::locale::classic(), new Comma), before = std::locale::global(comma);
  std::ostringstream stream;
  stream.imbue(comma);
  stream << std::hex << std::setprecision(1) << tensor({1.5, 12345.25}) << tensor({1000000});
  std::string formatted = fmt::format("<{}>", scalar(1234.5));
  std::locale::global(before);
  CHECK(stream.str() == "tensor([1.5000e+00, 1.2345e+04])tensor([1000000])");
  CHECK(formatted == "<tensor(1234.5000)>");
}

TEST_CASE("print: where dots begin, and where exponents do") {
  CHECK(to_string(zeros({7, 200})).find("\n        ...") != std::string::npos);
  CHECK(to_string(zeros({6, 200})).find("\n        ...") == std::string::npos);
  CHECK(to_string(tensor({1., 1000.5})) == "tensor([1.0000e+00, 1.0005e+03])");
}

TEST_CASE("print: shapes and dtypes go to a stream, too") {
  std::ostringstream out;
  out << Shape{2, 3} << ' ' << Strides() << ' ' << Shape(4) << ' ' << DType::Int64;
  CHECK(out.str() == "(2, 3) () (4,) int64");
}
