#include "io/safetensors_oracle.h"
#include "io/temporary_folder.h"
#include "support/digest.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>
#include <unroll/io/file.h>

#include <cstring>
#include <limits>

using namespace unroll;
using namespace unroll::io;
using safetensors_oracle::agrees;
using safetensors_oracle::file;

namespace {

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && digest(a) == digest(b);
}

NamedTensors some_tensors() {
  return {{"b", tensor({{1.0, 2.0}, {3.0, -4.0}})},
          {"a", tensor({1.5})},
          {"mask", tensor({true, false, true})},
          {"i", scalar(-2, DType::Int64)},
          {"d", tensor({0.5}, DType::Float64)},
          {"e", zeros({0, 3})},
          {"quo\"te\n\x01é", zeros({0})}};
}

}  // namespace

TEST_CASE("safetensors: the bytes are those that the reference writes") {
  // By safetensors 0.8.0 for Python.
  const char header[] =
      R"({"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"d":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[20,36]},)"
      R"("e":{"dtype":"F32","shape":[0,3],"data_offsets":[36,36]},"quo\"te\n\u0001é":{"dtype":"F32","shape":[0],"data_offsets":[36,36]},)"
      R"("mask":{"dtype":"BOOL","shape":[3],"data_offsets":[36,39]}}   )";
  const std::string data(
      "\xfe\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\xe0?\0\0\xc0?\0\0\x80?\0\0\0@\0\0@@\0\0\x80\xc0\1\0\1", 39);
  CHECK(write_safetensors(some_tensors()) == file(header, data));
  CHECK(write_safetensors({}, {}) == file("{}      "));
  // Alone and together more bytes than there are numbers for.
  const Tensor endless = views::expand(zeros(1, DType::Float64), {std::int64_t{1} << 61}),
               long_one = views::expand(zeros(1), {std::int64_t{1} << 60});
  CHECK_THROWS_AS(write_safetensors({{"x", endless}}, {}), OutOfMemory);
  CHECK_THROWS_AS(write_safetensors({{"x", long_one}, {"y", long_one}}, {}), OutOfMemory);
  CHECK(write_safetensors({{"x", zeros(1)}}, {}) ==
        file(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  )", std::string(4, '\0')));
}

TEST_CASE("safetensors: every dtype and geometry comes back as it was") {
  TemporaryFolder folder;
  Generator generator(1);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  NamedTensors tensors;
  int k = 0;
  auto add = [&](const Tensor& x) { tensors.emplace_back(fmt::format("t{}", k++), x); };
  for (DType dtype : {DType::Float32, DType::Float64, DType::Int64, DType::Bool})
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{2, 3}, Shape{0}, Shape{3, 0, 2},
                               Shape{1, 1, 1, 1, 1, 1, 1, 2}, Shape{2, 3, 4}}) {
      Tensor x = randn(shape, DType::Float64, generator).to(dtype);
      add(x);
      if (shape.size() == 2) add(views::transpose(x, 0, 1));
      if (shape.size() == 3) add(views::slice(x, -1, 0, 4, 2));
      if (shape == Shape{7}) add(views::narrow(x, 0, 2, 3));
      if (shape == Shape{1}) add(views::expand(x, {2, 5}));
    }
  add(tensor({nan, -nan, inf, -inf, -0.0, 5e-324}, DType::Float64));
  add(ones({2}).requires_grad_());
  Metadata metadata = {{"", ""},
                       {"a", "\"\\/\b\f\n\r\t\x1f\x7f"},
                       {"größe", "𝄞€\xf4\x8f\xbf\xbf"},
                       {std::string("\0k", 2), std::string("v\0", 2)}};
  save_safetensors(folder.path / "f", tensors, metadata);
  Safetensors got = load_safetensors(folder.path / "f");
  CHECK(got.metadata == metadata);
  REQUIRE(got.tensors.size() == tensors.size());
  std::map<std::string, Tensor> loaded(got.tensors.begin(), got.tensors.end());
  for (const auto& named : tensors) {
    CAPTURE(named.first);
    const Tensor& x = loaded.at(named.first);
    CHECK(same(x, named.second));
    CHECK(!x.requires_grad());
  }
  CHECK(agrees(read_file(folder.path / "f")));
  save_safetensors(folder.path / "g", got.tensors, got.metadata);
  CHECK(read_file(folder.path / "g") == read_file(folder.path / "f"));
}

TEST_CASE("safetensors: what cannot be written, and leaves the old file") {
  TemporaryFolder folder;
  const auto path = folder.path / "f";
  save_safetensors(path, {{"x", ones(2)}});
  const std::string before = read_file(path);
  CHECK_RAISES(ValueError, "two tensors 'x'",
               save_safetensors(path, {{"x", ones(1)}, {"y", ones(1)}, {"x", scalar(1, DType::Int64)}}));
  CHECK_RAISES(ValueError, "__metadata__", save_safetensors(path, {{"__metadata__", ones(1)}}));
  CHECK_RAISES(ValueError, "tensor 'y' is undefined", save_safetensors(path, {{"y", Tensor()}}));
  CHECK_RAISES(ValueError, "'\\xff' is not UTF-8", save_safetensors(path, {{"\xff", ones(1)}}));
  CHECK_RAISES(ValueError, "not UTF-8", save_safetensors(path, {}, {{"k", "\xed\xa0\x80"}}));
  CHECK_RAISES(IoError, "errno 2", save_safetensors(folder.path / "no" / "f", {}));
  CHECK(read_file(path) == before);
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: malformed files") {
  const std::string x = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", four(4, '\0');
  auto one = [&](const std::string& entry) { return "{\"x\":{" + entry + "}}"; };
  struct Row {
    const char* what;
    std::string bytes, text;
  };
  auto shape = [&](const std::string& s) {
    return file(one(R"("dtype":"F32","data_offsets":[0,4],"shape":)" + s), four);
  };
  auto offsets = [&](const std::string& s) {
    return file(one(R"("dtype":"F32","shape":[1],"data_offsets":)" + s), four);
  };
  auto named = [&](const std::string& name) { return file("{" + name + ":{" + x + "}}", four); };
  auto two = [&](const std::string& a, const std::string& b, std::size_t bytes) {
    return file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)" + a +
                    R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + b + "}}",
                std::string(bytes, '\0'));
  };
  auto length = [&](std::uint64_t n) { return std::string(reinterpret_cast<const char*>(&n), 8) + "{}"; };
  REQUIRE(agrees(file(one(x), four)));
  const std::vector<Row> rows = {
      {"empty file", "", "0 bytes are too few"},
      {"no whole length", "\2\0\0\0\0\0\0", "too few"},
      {"no header", length(0), "a header of 0 bytes"},
      {"a header of one byte", length(1), "a header of 1 bytes"},
      {"longer than the file", length(3), "a header of 3 bytes where 2 follow"},
      {"longer than the reference allows", length(100'000'001), "100000001"},
      {"wraps around", length(~std::uint64_t{0}), "18446744073709551615"},
      {"wraps around with the first eight bytes", length(~std::uint64_t{0} - 7), "header"},
      {"no JSON", file("xx"), "json: expected '{' at byte 0"},
      {"an array", file("[]"), "expected '{'"},
      {"null", file("null"), "expected '{'"},
      {"not closed", file("{ "), "json: expected a string at byte 2, got the end"},
      {"a byte-order mark", file("\xef\xbb\xbf{}"), "expected '{'"},
      {"something behind", file("{} {}"), "expected the end"},
      {"a zero byte behind", file(std::string_view("{}\0", 3)), "expected the end"},
      {"a zero byte and more behind", file(std::string_view("{}\0junk", 7)), "expected the end"},
      {"a vertical tab behind", file("{}\v"), "expected the end"},
      {"a comment", file("{}//"), "expected the end"},
      {"a trailing comma", file("{\"x\":{" + x + "},}", four), "a string"},
      {"no colon", file("{\"x\" {" + x + "}}", four), "':'"},
      {"a key without quotes", named("x"), "a string"},
      {"single quotes", named("'x'"), "a string"},
      {"bytes that are no UTF-8", named("\"\xff\""), "not UTF-8"},
      {"overlong UTF-8", named("\"\xc0\xaf\""), "not UTF-8"},
      {"a surrogate in UTF-8", named("\"\xed\xa0\x80\""), "not UTF-8"},
      {"beyond U+10FFFF", named("\"\xf4\x90\x80\x80\""), "not UTF-8"},
      {"half a UTF-8 sequence", file("{\"\xe2\x82"), "not UTF-8"},
      {"a control character in a string", named("\"\n\""), "no control character"},
      {"an unknown escape", named("\"\\x\""), "after a backslash"},
      {"a short \\u", named("\"\\u12\""), "four hexadecimal digits"},
      {"a signed \\u", named("\"\\u-123\""), "four hexadecimal digits"},
      {"a lone upper surrogate", named("\"\\ud800\""), "surrogate"},
      {"a lone lower surrogate", named("\"\\udc00\""), "surrogate"},
      {"two upper surrogates", named("\"\\ud800\\ud800\""), "surrogate"},
      {"equal names", file("{\"x\":{" + x + "},\"x\":{" + x + "}}", four), "two tensors 'x'"},
      {"equal names, one escaped", file("{\"x\":{" + x + "},\"\\u0078\":{" + x + "}}", four), "two tensors 'x'"},
      {"equal names of empty tensors",
       file(
           R"({"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"),
       "two tensors"},
      {"a key twice", file(one(x + R"(,"dtype":"F32")"), four), "has two 'dtype'"},
      {"an unknown key", file(one(x + R"(,"more":1)"), four), "an unknown 'more'"},
      {"no dtype", file(one(R"("shape":[1],"data_offsets":[0,4])"), four), "lacks"},
      {"no shape", file(one(R"("dtype":"F32","data_offsets":[0,4])"), four), "lacks"},
      {"no offsets", file(one(R"("dtype":"F32","shape":[1])"), four), "lacks"},
      {"an entry that is none", file(R"({"x":1})"), "'{'"},
      {"a dtype that is a number", file(one(R"("dtype":1,"shape":[1],"data_offsets":[0,4])"), four), "a string"},
      {"a dtype of others", file(one(R"("dtype":"BF16","shape":[2],"data_offsets":[0,4])"), four),
       "tensor 'x' has dtype 'BF16', expected F32, F64, I64 or BOOL"},
      {"a dtype of nobody", file(one(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), four), "dtype 'f32'"},
      {"a negative size", shape("[-1]"), "a whole number"},
      {"minus zero", shape("[-0]"), "a whole number"},
      {"a real", shape("[1.0]"), "']'"},
      {"an exponent", shape("[1e0]"), "']'"},
      {"a leading zero", shape("[01]"), "no leading zero"},
      {"a plus", shape("[+1]"), "a whole number"},
      {"a size as a string", shape("[\"1\"]"), "a whole number"},
      {"a size as true", shape("[true]"), "a whole number"},
      {"a shape that is a number", shape("1"), "'['"},
      {"a shape within a shape", shape("[[1]]"), "a whole number"},
      {"a size of 2^63", shape("[9223372036854775808]"), "below 2^63"},
      {"a size of 2^64 + 1", shape("[18446744073709551617]"), "below 2^63"},
      {"sizes whose product wraps to 1", shape("[274177,67280421310721]"), "bytes has shape"},
      {"bytes that wrap to 4", shape("[4611686018427387905]"), "bytes has shape"},
      {"an overflow beside a zero",
       file(one(R"("dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0])")), "bytes has shape"},
      {"too large a shape", shape("[2]"), "4 bytes has shape (2,)"},
      {"too small a shape", shape("[0]"), "4 bytes has shape (0,)"},
      {"one offset", offsets("[4]"), "1 data_offsets"},
      {"three offsets", offsets("[0,4,4]"), "3 data_offsets"},
      {"no offsets in the list", offsets("[]"), "0 data_offsets"},
      {"reversed offsets", offsets("[4,0]"), "expected it to begin at 0"},
      {"reversed offsets from the start",
       file(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[],"data_offsets":[4,0]}})",
           four),
       "'b' is at [4, 0)"},
      {"an end past the data", file(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), four), "end by 4"},
      {"an end far past the data", offsets("[0,9223372036854775807]"), "end by 4"},
      {"a hole at the start", file(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), four + four),
       "begin at 0"},
      {"a hole between", two("[0,4]", "[8,12]", 12), "begin at 4"},
      {"an overlap", two("[0,4]", "[2,6]", 6), "begin at 4"},
      {"the same place", two("[0,4]", "[0,4]", 4), "begin at 4"},
      {"an empty tensor inside another",
       file(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}})",
           four),
       "begin at 4"},
      {"bytes behind the last tensor", file(one(x), four + "P"), "5 bytes of data, tensors for 4"},
      {"data and no tensor", file("{}", "polyglot"), "8 bytes of data, tensors for 0"},
      {"a bool of two", file(one(R"("dtype":"BOOL","shape":[1],"data_offsets":[0,1])"), "\2"),
       "bytes other than 0 and 1"},
      {"metadata that is a string", file(R"({"__metadata__":"x"})"), "'{'"},
      {"metadata with a number", file(R"({"__metadata__":{"a":1}})"), "a string"},
      {"metadata with null", file(R"({"__metadata__":{"a":null}})"), "a string"},
      {"metadata with an object", file(R"({"__metadata__":{"a":{}}})"), "a string"},
      {"metadata twice", file(R"({"__metadata__":{},"__metadata__":{}})"), "two __metadata__"},
      {"a key of the metadata twice", file(R"({"__metadata__":{"a":"1","a":"2"}})"), "two equal keys"},
      {"100000 opening brackets", file(std::string(100'000, '[')), "expected '{'"},
      {"100000 opening brackets in a shape", shape(std::string(100'000, '[')), "a whole number"},
      {"100000 nested objects", file([] {
         std::string deep;
         for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
         return deep;
       }()),
       "an unknown 'a'"},
  };
  CHECK(rows.size() >= 60);
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK_RAISES(FormatError, row.text.c_str(), read_safetensors(row.bytes));
    CHECK(agrees(row.bytes));
  }
}

TEST_CASE("safetensors: a header may not be longer than the reference's 100,000,000 bytes, even when they are there") {
  const std::uint64_t n = 100'000'001;
  std::string bytes(8 + n, ' ');
  std::memcpy(bytes.data(), &n, 8);
  bytes.replace(8, 2, "{}");
  CHECK_RAISES(FormatError, "a header of 100000001 bytes where 100000001 follow", read_safetensors(bytes));
}

TEST_CASE("safetensors: odd files that are good") {
  const std::string x = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", four(4, '\0');
  CHECK(read_safetensors(file("{}")).tensors.empty());
  CHECK(read_safetensors(file(" \t\r\n{} \t\r\n"))
            .tensors.empty());  // newer reference readers take both; we write neither
  CHECK(read_safetensors(file(R"({"__metadata__":{}})")).metadata.empty());
  CHECK(read_safetensors(file("{ \"x\" : { \"shape\" : [ 1 ] , \"data_offsets\":[0,4],\"dtype\":\"F32\"} }", four))
            .tensors[0]
            .first == "x");
  CHECK(read_safetensors(file("{\"\":" + x + "}", four)).tensors[0].first.empty());
  CHECK(read_safetensors(file("{\"\\ud834\\udd1e\\u20ac\\u00e9\\/\":" + x + "}", four)).tensors[0].first == "𝄞€é/");
  // Empty tensors, several at one place; the order of the file is kept.
  Safetensors empty = read_safetensors(file(
      R"({"b":{"dtype":"F64","shape":[0],"data_offsets":[4,4]},"x":)" + x +
          R"(,"a":{"dtype":"I64","shape":[3,0],"data_offsets":[4,4]},"c":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}})",
      four));
  REQUIRE(empty.tensors.size() == 4);
  CHECK(empty.tensors[0].first == "b");
  CHECK(empty.tensors[2].second.shape() == Shape{3, 0});
}

TEST_CASE("safetensors: each flipped bit and each truncation of small files is an error, or read as it stands") {
  const std::vector<std::string> files = {
      write_safetensors(some_tensors(), {{"k", "v\"é"}}),
      write_safetensors({{"w", tensor({{1.0, 2.0}})}, {"m", tensor({true, false})}}, {}),
      file(
          R"( {"__metadata__":{"a":"\ud834\udd1e"},"x":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2,0],"data_offsets":[8,8]}})",
          std::string(8, '\7')),
  };
  for (const std::string& good : files) {
    REQUIRE(agrees(good));
    REQUIRE_NOTHROW(read_safetensors(good));
    for (std::size_t n = 0; n < good.size(); ++n) {
      CAPTURE(n);
      REQUIRE_THROWS_AS(read_safetensors(std::string_view(good).substr(0, n)), FormatError);
    }
    std::string bytes = good;
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
      CAPTURE(bit);
      auto flip = static_cast<char>(1 << bit % 8);
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ flip);
      REQUIRE(agrees(bytes));
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ flip);
    }
  }
}

TEST_CASE("safetensors: random changes, several at a time") {
  Generator generator(7);
  auto below = [&](std::size_t n) { return generator.random32() % static_cast<std::uint32_t>(n); };
  const std::string good = write_safetensors(some_tensors(), {{"k", "v"}});
  const std::string_view pieces[] = {"\"",   "{",           "}", "[", "]",       ",",  ":",
                                     "0",    "1",           "4", "8", "\\u0000", "\\", "F32",
                                     "I64",  "BOOL",        " ", "-", ".",       "e",  std::string_view("\0", 1),
                                     "\x80", "__metadata__"};
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (std::uint32_t k = below(3) + 1; k > 0; --k) {
      std::size_t at = 8 + below(bytes.size() - 8), length = below(3);
      bytes.replace(at, length, pieces[below(std::size(pieces))]);
    }
    std::uint64_t header = 0;  // so that most changes are not just a wrong length
    std::memcpy(&header, bytes.data(), 8);
    header += bytes.size() - good.size();
    std::memcpy(bytes.data(), &header, 8);
    CAPTURE(bytes);
    REQUIRE(agrees(bytes));
  }
}

TEST_CASE("safetensors: an error names the file") {
  TemporaryFolder folder;
  write_atomically(folder.path / "bad\n", "short");
  CHECK_RAISES(FormatError, "bad\\x0a': safetensors: 5 bytes are too few", load_safetensors(folder.path / "bad\n"));
  CHECK_RAISES(IoError, "No such file", load_safetensors(folder.path / "missing"));
  CHECK_RAISES(IoError, "Is a directory", load_safetensors(folder.path));
}

TEST_CASE("safetensors: 100000 dimensions and 20000 tensors take no more than their share of time") {
  std::string sizes = "1";
  for (int i = 0; i < 100'000; ++i) sizes += ",1";
  Safetensors deep = read_safetensors(
      file(R"({"x":{"dtype":"F32","data_offsets":[0,4],"shape":[)" + sizes + "]}}", std::string(4, '\0')));
  CHECK(deep.tensors[0].second.dim() == 100'001);
  NamedTensors many;
  for (int i = 0; i < 20'000; ++i) many.emplace_back(fmt::format("t{}", i), scalar(i));
  Safetensors back = read_safetensors(write_safetensors(many));
  CHECK(back.tensors.size() == many.size());
}

TEST_CASE("safetensors: escaped characters at the ends of what two and three bytes can say") {
  const std::string header = R"({"\u0800\u07ff\uffff":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  CHECK(read_safetensors(file + header).tensors[0].first == "\u0800\u07ff\uffff");
}

TEST_CASE("safetensors: a header longer than the reference's 100,000,000 bytes is not written") {
  CHECK_THROWS_AS(write_safetensors({}, {{"k", std::string(100'000'000, 'a')}}), ValueError);
}

TEST_CASE("safetensors: what torch.save writes is named, unless it happens to be a header of that many bytes") {
  const std::string zip("PK\3\4\0\0\x08\x08\0\0 and so on", 20);
  CHECK_THROWS_WITH_AS(read_safetensors(zip), doctest::Contains("zip archive, as torch.save writes"), FormatError);
  CHECK_THROWS_WITH_AS(read_safetensors(std::string("PK\3\4", 4)), doctest::Contains("4 bytes are too few"),
                       FormatError);
}
