#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/error.h>
#include <unroll/io/file.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <optional>
#include <system_error>

namespace unroll::io {
namespace {

using detail::Quoted;

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

/// Whether this file system has no such call.
bool is_missing(int error) noexcept { return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP; }

int open_file(const std::filesystem::path& path, int flags, mode_t mode = 0) {
  return retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); });
}

class File {
 public:
  /// Of what open() returned.
  File(const char* op, const std::filesystem::path& path, int fd) : op_(op), path_(path), fd_(fd) {
    if (fd_ == -1) fail("open");
  }
  ~File() { ::close(fd_); }  // what it could still report of written data, sync() has reported
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const noexcept { return fd_; }
  [[noreturn]] void fail(const char* call) const { io::fail(op_, path_, call); }

  struct stat status() const {
    struct stat s;
    if (retry([&] { return ::fstat(fd_, &s); }) == -1) fail("fstat");
    return s;
  }
  void write(std::string_view bytes) const {
    while (!bytes.empty()) {
      ssize_t n = retry([&] { return ::write(fd_, bytes.data(), bytes.size()); });
      if (n == 0) errno = EIO;  // a driver that takes nothing and says nothing
      if (n <= 0) fail("write");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void sync() const {
    // Never tried again after a failure: the kernel may have dropped the pages, and would then report success.
    if (retry([&] { return ::fsync(fd_); }) == -1 && !is_missing(errno)) fail("fsync");
  }
  /// Gives the file to the owner and group of another and lets the same people at it, as far as we may and the file
  /// system can.
  void resemble(const struct stat& other) const {
    if (::fchown(fd_, other.st_uid, other.st_gid) == -1 && ::fchown(fd_, static_cast<uid_t>(-1), other.st_gid) == -1 &&
        errno != EPERM && !is_missing(errno))
      fail("fchown");
    mode_t mode = other.st_mode & 07777;
    const struct stat now = status();
    if (now.st_uid != other.st_uid) mode &= ~static_cast<mode_t>(S_ISUID);  // who runs it would run it as somebody else
    if (now.st_gid != other.st_gid) mode &= ~static_cast<mode_t>(S_ISGID);
    if (::fchmod(fd_, mode) == -1 && errno != EPERM && !is_missing(errno)) fail("fchmod");
  }
  /// Waits for those who have the file locked. Whether it could be locked: some file systems have no locks.
  bool lock() const {
    if (retry([&] { return ::flock(fd_, LOCK_EX); }) != -1) return true;
    if (errno != ENOLCK && !is_missing(errno)) fail("flock");
    return false;
  }

 private:
  const char* op_;
  const std::filesystem::path& path_;
  int fd_;
};

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

constexpr char kWrite[] = "write_atomically", kRead[] = "read_file";

void check_path(const char* op, const std::filesystem::path& path) {
  if (path.native().find('\0') == std::string::npos) return;
  errno = EINVAL;
  fail(op, path, "open");
}

/// What a chain of symbolic links leads to, whether it exists or not. Nothing, if by way of /proc: what its links say
/// is no path, though it may look like one.
std::optional<std::filesystem::path> follow_links(std::filesystem::path path) {
  constexpr int kMost = 40;  // as the kernel's
  for (int links = 0; links <= kMost; ++links) {
    char target[PATH_MAX];
    const ssize_t n = retry([&] { return ::readlink(path.c_str(), target, sizeof target); });
    if (n == -1 && (errno == EINVAL || errno == ENOENT)) return path;  // no link, or nothing
    if (n == -1) fail(kWrite, path, "readlink");
    struct statfs system;
    const std::filesystem::path folder = folder_of(path);
    if (retry([&] { return ::statfs(folder.c_str(), &system); }) == -1) fail(kWrite, folder, "statfs");
    if (system.f_type == PROC_SUPER_MAGIC) return std::nullopt;
    path = path.parent_path() / std::string_view(target, static_cast<std::size_t>(n));
  }
  errno = ELOOP;
  fail(kWrite, path, "open");
}

/// Whether that is what the path leads to, and not by a link.
bool same_file(const struct stat& a, const std::filesystem::path& path) {
  struct stat b;
  return ::lstat(path.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Makes room for a new file of that name. One that is there was left by a writer that was killed, or belongs to one
/// who is not done, for whose lock we wait. Where there are no locks nobody knows which, so that it stays: false.
bool remove_left(const std::filesystem::path& path) {
  int fd = open_file(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
  if (fd == -1 && errno == EACCES) fd = open_file(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);  // as the old one, perhaps
  if (fd == -1 && errno == ENOENT) return true;
  File left(kWrite, path, fd);
  if (!left.lock()) return false;
  if (same_file(left.status(), path) && ::unlink(path.c_str()) == -1) left.fail("unlink");
  return true;
}

/// One name for each path, so that the next save clears away what a killed one has left; the lock keeps other processes
/// off it. Without locks another one each time.
std::string temporary_name(const std::filesystem::path& path, bool has_locks) {
  static std::atomic<std::uint64_t> count;
  constexpr std::size_t kLongestName = 255;
  const std::string ending = has_locks ? ".tmp" : fmt::format(".{}.{}.tmp", ::getpid(), ++count);
  return fmt::format(".{}{}", path.filename().native().substr(0, kLongestName - 1 - ending.size()), ending);
}

void replace(const std::filesystem::path& path, const struct stat* old, std::string_view bytes) {
  const std::filesystem::path folder = folder_of(path);
  const File directory(kWrite, folder, open_file(folder, O_RDONLY | O_DIRECTORY));
  for (bool has_locks = true;;) {
    const std::filesystem::path temporary = folder / temporary_name(path, has_locks);
    const int fd =
        open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, old ? 0600 : 0666);  // nobody else's while it is made
    if (fd == -1 && errno == EEXIST) {
      has_locks = has_locks && remove_left(temporary);
      continue;
    }
    const File file(kWrite, temporary, fd);
    try {
      if (has_locks && !file.lock()) {
        ::unlink(temporary.c_str());  // ours: without locks nobody takes another's away
        has_locks = false;
        continue;
      }
      if (!same_file(file.status(), temporary)) continue;  // before it was locked, somebody took it for a left one
      file.write(bytes);
      if (old) file.resemble(*old);
      file.sync();
      if (::rename(temporary.c_str(), path.c_str()) == -1) fail(kWrite, path, "rename");
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
  const std::filesystem::path path = given;
  struct stat old;
  bool exists = retry([&] { return ::stat(path.c_str(), &old); }) == 0;
  if (!exists && errno != ENOENT) fail(kWrite, path, "stat");
  const std::optional<std::filesystem::path> target = follow_links(path);
  if (target && (!exists || S_ISREG(old.st_mode)))
    replace(*target, exists ? &old : nullptr, bytes);
  else
    File(kWrite, path, open_file(path, O_WRONLY | O_TRUNC)).write(bytes);
}

std::string read_file(const std::string& given) {
  const std::filesystem::path path = given;
  check_path(kRead, path);
  File file(kRead, path, open_file(path, O_RDONLY | O_NONBLOCK));  // opening a pipe would wait for its writer
  struct stat status = file.status();
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    file.fail("read");
  }
  check<IoError>(S_ISREG(status.st_mode), "{}: {}: fstat: not an ordinary file", kRead, Quoted{path.native()});
  // The size is what the system says; a file of /proc says 0, and one that is written just now changes it.
  const auto stated = static_cast<std::size_t>(status.st_size);
  std::string bytes;
  try {
    bytes.resize(stated + 1);
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw OutOfMemory(stated);
  }
  std::size_t size = 0;
  for (;;) {
    const ssize_t n = retry([&] { return ::read(file.fd(), bytes.data() + size, bytes.size() - size); });
    if (n == -1) file.fail("read");
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
    if (size == bytes.size()) bytes.resize(2 * size + 4096);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace unroll::io
