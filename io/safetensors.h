#pragma once
#include <unroll/core/tensor.h>

#include <map>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
/// The safetensors format (github.com/huggingface/safetensors): tensors by name in one file that anything reads and
/// that holds no code.
///
///     u64 N | N bytes of JSON | data
///     {"__metadata__": {…}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
///
/// little-endian and row-major. Our dtypes are F32, F64, I64 and BOOL.
namespace unroll::io {

/// Texts by name, which stand beside the tensors in a file.
using Metadata = std::map<std::string, std::string>;

/// What a file holds.
struct Safetensors {
  NamedTensors tensors;  // in the order of the header
  Metadata metadata;
};

/// Writes atomically (io/file.h), in the reference's order: widest dtype first, then by name. `format` is what Hugging
/// Face's tools ask for. Raises ValueError for a name that occurs twice, is "__metadata__" or not UTF-8, and for an
/// undefined tensor; IoError.
void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const Metadata& metadata = {{"format", "pt"}});

/// Raises FormatError for a file that breaks any rule of the format, is ambiguous (two equal keys, overlapping data,
/// unused bytes) or holds a dtype that is none of ours; IoError. Like the reference, it passes over JSON's white space
/// around the header.
Safetensors load_safetensors(const std::string& path);

/// The same in memory.
std::string write_safetensors(const NamedTensors& tensors, const Metadata& metadata = {{"format", "pt"}});
Safetensors read_safetensors(std::string_view bytes);

}  // namespace unroll::io
#pragma GCC visibility pop
