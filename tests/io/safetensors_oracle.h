#pragma once
#include <unroll/io/safetensors.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <set>

/// The format's rules said a second time, on another JSON reader: whether `bytes` is a good file, and if it is, whether
/// `got` says the same.
namespace safetensors_oracle {

using Json = nlohmann::json;

/// A file of that header, good or not.
inline std::string file(std::string_view header, std::string_view data = {}) {
  std::uint64_t n = header.size();
  std::string bytes(reinterpret_cast<const char*>(&n), 8);
  return bytes.append(header).append(data);
}

inline bool unique_keys(const std::string& text, Json& header) {
  std::vector<std::set<std::string>> open;
  bool unique = true;
  header = Json::parse(
      text,
      [&](int, Json::parse_event_t event, Json& value) {
        if (event == Json::parse_event_t::object_start) open.emplace_back();
        if (event == Json::parse_event_t::object_end) open.pop_back();
        if (event == Json::parse_event_t::key) unique &= open.back().insert(value.get<std::string>()).second;
        return true;
      },
      false);
  return unique && !header.is_discarded();
}

/// The header of a good file and its data; nothing for a bad one.
inline bool read(std::string_view bytes, Json& header, std::string_view& data) {
  std::uint64_t n = 0;
  if (bytes.size() < 8) return false;
  std::memcpy(&n, bytes.data(), 8);
  if (n < 2 || n > bytes.size() - 8 || n > 100'000'000) return false;
  std::string text(bytes.substr(8, n));
  // nlohmann takes a zero byte for the end, and skips a byte-order mark.
  if (text.find('\0') != std::string::npos || text[0] == '\xef') return false;
  // It takes −0 for a number like others.
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (text[i] == '-' && !quoted)
      return false;
  }
  if (!unique_keys(text, header) || !header.is_object()) return false;
  data = bytes.substr(8 + n);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> spans;
  for (const auto& [name, entry] : header.items()) {
    if (!entry.is_object()) return false;
    if (name == "__metadata__") {
      for (const auto& value : entry)
        if (!value.is_string()) return false;
      continue;
    }
    if (entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
      return false;
    const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
    std::uint64_t size = dtype == "F32" ? 4 : dtype == "F64" || dtype == "I64" ? 8 : dtype == "BOOL" ? 1 : 0;
    if (size == 0 || !shape.is_array() || !offsets.is_array() || offsets.size() != 2) return false;
    bool empty = false;
    for (const auto& numbers : {shape, offsets})
      for (const Json& number : numbers)
        if (!number.is_number_unsigned() || number.get<std::uint64_t>() >> 63) return false;
    for (const Json& length : shape) {
      if (length == 0) empty = true;
      if (length != 0 && (__builtin_mul_overflow(size, length.get<std::uint64_t>(), &size) || size >> 63)) return false;
    }
    std::uint64_t begin = offsets[0], end = offsets[1];
    if (end < begin || end > data.size() || end - begin != (empty ? 0 : size)) return false;
    if (dtype == "BOOL" &&
        !std::ranges::all_of(data.substr(begin, end - begin), [](char c) { return c == 0 || c == 1; }))
      return false;
    spans.emplace_back(begin, end);
  }
  std::ranges::sort(spans);
  std::uint64_t position = 0;
  for (auto [begin, end] : spans) {
    if (begin != position) return false;
    position = end;
  }
  return position == data.size();
}

inline std::string_view bytes_of(const unroll::Tensor& x) {
  return unroll::dispatch(x.dtype(), [&]<class T>() {
    return std::string_view(reinterpret_cast<const char*>(x.data<T>()),
                            static_cast<std::size_t>(x.numel()) * sizeof(T));
  });
}

/// Whether read_safetensors does with `bytes` what it should: raise FormatError, or return what they say.
inline bool agrees(std::string_view bytes) {
  Json header;
  std::string_view data;
  const bool good = read(bytes, header, data);
  unroll::io::Safetensors got;
  try {
    got = unroll::io::read_safetensors(bytes);
  } catch (const unroll::FormatError&) {
    return !good;
  }
  if (!good) return false;
  Json metadata = header.contains("__metadata__") ? header["__metadata__"] : Json::object();
  if (Json(got.metadata) != metadata || got.tensors.size() + header.contains("__metadata__") != header.size())
    return false;
  return std::ranges::all_of(got.tensors, [&](const auto& named) {
    const auto& [name, x] = named;
    const Json& entry = header[name];
    std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    const char* dtype = x.dtype() == unroll::DType::Float32   ? "F32"
                        : x.dtype() == unroll::DType::Float64 ? "F64"
                        : x.dtype() == unroll::DType::Int64   ? "I64"
                                                              : "BOOL";
    return entry["dtype"] == dtype && entry["shape"] == Json(std::vector(x.shape().begin(), x.shape().end())) &&
           x.is_contiguous() && bytes_of(x) == data.substr(begin, end - begin);
  });
}

}  // namespace safetensors_oracle
