#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

/// A new folder that goes with the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "unroll-test-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  /// How many files are in it.
  std::ptrdiff_t files() const {
    return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator());
  }

  /// Where nothing can be written: a device of our own if we may make one, or else the system's, which whoever may make
  /// devices could destroy.
  std::string full_device() const {
    const std::string own = path / "full";
    const int file = ::mknod(own.c_str(), S_IFCHR | 0600, ::makedev(1, 7)) == 0 ? ::open(own.c_str(), O_WRONLY) : -1;
    if (file >= 0) return ::close(file), own;
    std::filesystem::remove(own);
    return "/dev/full";
  }

  std::filesystem::path path;
};
