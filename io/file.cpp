#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unroll/core/error.h>
#include <unroll/io/detail/text.h>
#include <unroll/io/file.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace unroll::io {
namespace {

[[noreturn, gnu::cold]] void fail(const char* op, const std::filesystem::path& path, const char* call) {
  int error = errno;
  throw IoError(fmt::format("{}: {}: {}: {} (errno {})", op, Quoted{path.native()}, call,
                            std::system_category().message(error), error));
}

/// A system call, made again whenever a signal interrupts it.
template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

class File {
 public:
  File(const char* op, const std::filesystem::path& path, int flags, mode_t mode = 0666)
      : op_(op), path_(path), fd_(retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); })) {
    if (fd_ == -1) fail("open");
  }
  ~File() { ::close(fd_); }  // what it could still report of written data, sync() has reported
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const noexcept { return fd_; }
  [[noreturn]] void fail(const char* call) const { io::fail(op_, path_, call); }

  struct stat status() const {
    struct stat s;
    if (::fstat(fd_, &s) == -1) fail("fstat");
    return s;
  }
  void write(std::string_view bytes) const {
    while (!bytes.empty()) {
      ssize_t n = retry([&] { return ::write(fd_, bytes.data(), bytes.size()); });
      if (n == -1) fail("write");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void sync() const {
    // Never tried again after a failure: the kernel may have dropped the pages, and would then report success. EINVAL:
    // this file system has no such thing.
    if (retry([&] { return ::fsync(fd_); }) == -1 && errno != EINVAL) fail("fsync");
  }

 private:
  const char* op_;
  const std::filesystem::path& path_;
  int fd_;
};

constexpr char kWrite[] = "write_atomically", kRead[] = "read_file";

void check_path(const char* op, const std::filesystem::path& path) {
  if (path.native().find('\0') == std::string::npos) return;
  errno = EINVAL;
  fail(op, path, "open");
}

/// What a chain of symbolic links leads to, whether it exists or not.
std::filesystem::path follow_links(std::filesystem::path path) {
  std::error_code ignored;
  for (int links = 0; links < 40 && std::filesystem::is_symlink(path, ignored); ++links)
    path = path.parent_path() / std::filesystem::read_symlink(path, ignored);
  return path;
}

bool same_file(const struct stat& a, const std::filesystem::path& path) {
  struct stat b;
  return ::lstat(path.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void replace(const std::filesystem::path& path, const struct stat* old, std::string_view bytes) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  // One name for each path, so that the next save takes over what a killed one has left; the lock keeps other processes
  // off it.
  constexpr std::size_t kLongestName = 255;
  const std::filesystem::path temporary =
      folder / fmt::format(".{}.tmp", path.filename().native().substr(0, kLongestName - 5));
  File directory(kWrite, folder, O_RDONLY | O_DIRECTORY);
  for (;;) {
    File file(kWrite, temporary, O_WRONLY | O_CREAT | O_NOFOLLOW);
    if (retry([&] { return ::flock(file.fd(), LOCK_EX); }) == -1 && errno != ENOLCK) file.fail("flock");
    if (!same_file(file.status(), temporary)) continue;  // whoever had the lock has renamed or removed it
    try {
      if (::ftruncate(file.fd(), 0) == -1) file.fail("ftruncate");
      if (old && ::fchmod(file.fd(), old->st_mode & 07777) == -1) file.fail("fchmod");
      file.write(bytes);
      file.sync();
      if (::rename(temporary.c_str(), path.c_str()) == -1) io::fail(kWrite, path, "rename");
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
    directory.sync();  // the new name lives there
    return;
  }
}

}  // namespace

void write_atomically(const std::string& given, std::string_view bytes) {
  check_path(kWrite, given);
  const std::filesystem::path path = follow_links(given);
  struct stat old;
  bool exists = ::stat(path.c_str(), &old) == 0;
  if (!exists && errno != ENOENT) fail(kWrite, path, "stat");
  if (exists && !S_ISREG(old.st_mode)) {
    File(kWrite, path, O_WRONLY).write(bytes);
  } else {
    replace(path, exists ? &old : nullptr, bytes);
  }
}

std::string read_file(const std::string& given) {
  const std::filesystem::path path = given;
  check_path(kRead, path);
  File file(kRead, path, O_RDONLY | O_NONBLOCK);  // opening a pipe would wait for its writer
  struct stat status = file.status();
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    file.fail("read");
  }
  check<IoError>(S_ISREG(status.st_mode), "{}: {}: open: not an ordinary file", kRead, Quoted{path.native()});
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t size = 0;
  while (size < bytes.size()) {
    ssize_t n = retry([&] { return ::read(file.fd(), bytes.data() + size, bytes.size() - size); });
    if (n == -1) file.fail("read");
    if (n == 0) break;  // somebody has made it shorter
    size += static_cast<std::size_t>(n);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace unroll::io
