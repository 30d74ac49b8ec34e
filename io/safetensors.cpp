#include <fmt/format.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/io/detail/json.h>
#include <unroll/io/file.h>
#include <unroll/io/safetensors.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

namespace unroll::io {
namespace {

using detail::is_utf8, detail::Quoted;

static_assert(std::endian::native == std::endian::little, "safetensors: elements are copied as they lie in memory");

constexpr std::uint64_t kLongestHeader = 100'000'000;  // the reference's
constexpr std::string_view kMetadata = "__metadata__";

/// Our dtypes in the reference's order of data.
constexpr struct {
  DType dtype;
  std::string_view name;
} kDTypes[] = {{DType::Int64, "I64"}, {DType::Float64, "F64"}, {DType::Float32, "F32"}, {DType::Bool, "BOOL"}};

std::size_t order_of(DType dtype) {
  return static_cast<std::size_t>(std::ranges::find(kDTypes, dtype, [](const auto& d) { return d.dtype; }) - kDTypes);
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::int64_t begin, end;  // in the data
};

struct Header {
  std::vector<Entry> entries;
  Metadata metadata;
};

DType read_dtype(json::Scanner& scanner, std::string_view tensor) {
  std::string name = scanner.string();
  auto found = std::ranges::find(kDTypes, name, [](const auto& d) { return d.name; });
  check<FormatError>(found != std::end(kDTypes), "safetensors: tensor {} has dtype {}, expected F32, F64, I64 or BOOL",
                     Quoted{tensor}, Quoted{name});
  return found->dtype;
}

Entry read_entry(json::Scanner& scanner, std::string name) {
  Entry entry{std::move(name), DType::Float32, {}, 0, 0};
  bool has_dtype = false, has_shape = false, has_offsets = false;
  scanner.object([&](const std::string& key) {
    bool* has = key == "dtype"          ? &has_dtype
                : key == "shape"        ? &has_shape
                : key == "data_offsets" ? &has_offsets
                                        : nullptr;
    check<FormatError>(has && !*has, "safetensors: tensor {} has {} {}", Quoted{entry.name}, has ? "two" : "an unknown",
                       Quoted{key});
    *has = true;
    if (has == &has_dtype) {
      entry.dtype = read_dtype(scanner, entry.name);
    } else if (has == &has_shape) {
      entry.shape = Shape(scanner.integers());
    } else {
      std::vector<std::int64_t> offsets = scanner.integers();
      check<FormatError>(offsets.size() == 2, "safetensors: tensor {} has {} data_offsets", Quoted{entry.name},
                         offsets.size());
      entry.begin = offsets[0];
      entry.end = offsets[1];
    }
  });
  check<FormatError>(has_dtype && has_shape && has_offsets,
                     "safetensors: tensor {} lacks its dtype, shape or data_offsets", Quoted{entry.name});
  return entry;
}

Header read_header(std::string_view text) {
  check<FormatError>(is_utf8(text), "safetensors: the header is not UTF-8");
  Header header;
  bool has_metadata = false;
  json::Scanner scanner(text);
  scanner.object([&](std::string key) {
    if (key != kMetadata) {
      header.entries.push_back(read_entry(scanner, std::move(key)));
      return;
    }
    check<FormatError>(!has_metadata, "safetensors: two {}", kMetadata);
    has_metadata = true;
    scanner.object([&](std::string name) {
      std::string value = scanner.string();
      bool is_new = header.metadata.emplace(std::move(name), std::move(value)).second;
      check<FormatError>(is_new, "safetensors: two equal keys in {}", kMetadata);
    });
  });
  scanner.end();
  return header;
}

/// Each name once, each span as long as its tensor, and the spans in a row from the first byte of the data to the last.
void check_entries(const std::vector<Entry>& entries, std::int64_t data_size) {
  std::vector<const Entry*> sorted;
  for (const Entry& entry : entries) sorted.push_back(&entry);
  std::ranges::sort(sorted, {}, [](const Entry* e) -> const std::string& { return e->name; });
  for (std::size_t i = 1; i < sorted.size(); ++i)
    check<FormatError>(sorted[i - 1]->name != sorted[i]->name, "safetensors: two tensors {}", Quoted{sorted[i]->name});

  std::ranges::sort(sorted, {}, [](const Entry* e) { return std::pair(e->begin, e->end); });
  std::int64_t position = 0;
  for (const Entry* entry : sorted) {
    check<FormatError>(entry->begin == position && entry->end >= entry->begin && entry->end <= data_size,
                       "safetensors: tensor {} is at [{}, {}), expected it to begin at {} and to end by {}",
                       Quoted{entry->name}, entry->begin, entry->end, position, data_size);
    position = entry->end;
    std::int64_t bytes = -1;
    try {
      bytes = checked_mul(numel(entry->shape), static_cast<std::int64_t>(size_of(entry->dtype)));
    } catch (const ShapeError&) {  // too large for any span
    }
    check<FormatError>(bytes == entry->end - entry->begin, "safetensors: tensor {} of {} bytes has shape {} of {}",
                       Quoted{entry->name}, entry->end - entry->begin, entry->shape, entry->dtype);
  }
  check<FormatError>(position == data_size, "safetensors: {} bytes of data, tensors for {}", data_size, position);
}

Tensor read_tensor(const Entry& entry, std::string_view data) {
  std::string_view bytes =
      data.substr(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin));
  if (entry.dtype == DType::Bool)
    check<FormatError>(std::ranges::all_of(bytes, [](char c) { return c == 0 || c == 1; }),
                       "safetensors: tensor {} of BOOL has bytes other than 0 and 1", Quoted{entry.name});
  Tensor x = empty(entry.shape, entry.dtype);
  dispatch(entry.dtype, [&]<class T>() { std::memcpy(x.raw<T>(), bytes.data(), bytes.size()); });
  return x;
}

}  // namespace

Safetensors read_safetensors(std::string_view bytes) {
  std::uint64_t length = 0;
  check<FormatError>(bytes.size() >= sizeof length, "safetensors: {} bytes are too few", bytes.size());
  const bool is_zip = bytes.starts_with("PK\3\4");  // or a header of as many bytes
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes.remove_prefix(sizeof length);
  const bool fits = length >= 2 && length <= kLongestHeader && length <= bytes.size();
  check<FormatError>(fits || !is_zip,
                     "safetensors: this is a zip archive, as torch.save writes; save the state_dict "
                     "with save_file of safetensors.torch");
  check<FormatError>(fits, "safetensors: a header of {} bytes where {} follow", length, bytes.size());
  Header header = read_header(bytes.substr(0, length));
  bytes.remove_prefix(length);
  check_entries(header.entries, static_cast<std::int64_t>(bytes.size()));
  Safetensors file{{}, std::move(header.metadata)};
  for (Entry& entry : header.entries) {
    Tensor x = read_tensor(entry, bytes);
    file.tensors.emplace_back(std::move(entry.name), std::move(x));
  }
  return file;
}

std::string write_safetensors(const NamedTensors& tensors, const Metadata& metadata) {
  auto check_text = [](const std::string& text) {
    check<ValueError>(is_utf8(text), "safetensors: the name or text {} is not UTF-8", Quoted{text});
    return json::quote(text);
  };
  std::vector<const std::pair<std::string, Tensor>*> sorted;
  std::set<std::string_view> names;
  for (const auto& named : tensors) {
    check<ValueError>(names.insert(named.first).second, "safetensors: two tensors {}", Quoted{named.first});
    check<ValueError>(named.first != kMetadata, "safetensors: no tensor can be named {}", kMetadata);
    check<ValueError>(named.second.defined(), "safetensors: tensor {} is undefined", Quoted{named.first});
    sorted.push_back(&named);
  }
  std::ranges::sort(sorted, [](const auto* a, const auto* b) {
    return std::pair(order_of(a->second.dtype()), std::string_view(a->first)) <
           std::pair(order_of(b->second.dtype()), std::string_view(b->first));
  });

  std::string header = "{";
  if (!metadata.empty()) {
    std::string members;
    for (const auto& [name, value] : metadata)
      members += fmt::format("{}{}:{}", members.empty() ? "" : ",", check_text(name), check_text(value));
    header += fmt::format("\"{}\":{{{}}}", kMetadata, members);
  }
  std::string file;
  const std::size_t most = file.max_size() - kLongestHeader - sizeof(std::uint64_t);
  std::size_t position = 0;
  for (const auto* named : sorted) {
    const Tensor& x = named->second;
    std::string sizes;
    for (std::int64_t size : x.shape()) sizes += fmt::format("{}{}", sizes.empty() ? "" : ",", size);
    const auto count = static_cast<std::size_t>(x.numel());  // of an expanded tensor it can be any
    if (count > (most - position) / size_of(x.dtype())) throw OutOfMemory(most);
    const std::size_t end = position + count * size_of(x.dtype());
    header +=
        fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", header.size() > 1 ? "," : "",
                    check_text(named->first), kDTypes[order_of(x.dtype())].name, sizes, position, end);
    position = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  check<ValueError>(header.size() <= kLongestHeader, "safetensors: a header of {} bytes, at most {} are allowed",
                    header.size(), kLongestHeader);

  const std::uint64_t length = header.size();
  file.reserve(sizeof length + length + position);
  file.append(reinterpret_cast<const char*>(&length), sizeof length);
  file += header;
  for (const auto* named : sorted) {
    Tensor x = kernels::contiguous(named->second);
    dispatch(x.dtype(), [&]<class T>() {
      file.append(reinterpret_cast<const char*>(x.raw<T>()), static_cast<std::size_t>(x.numel()) * sizeof(T));
    });
  }
  return file;
}

void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata) {
  write_atomically(path, write_safetensors(tensors, metadata));
}

Safetensors load_safetensors(const std::string& path) {
  try {
    return read_safetensors(read_file(path));
  } catch (const FormatError& error) {
    throw FormatError(fmt::format("{}: {}", Quoted{path}, error.what()));
  }
}

}  // namespace unroll::io
