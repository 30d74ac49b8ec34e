#include "io/temporary_folder.h"
#include "support/child.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unroll/core/error.h>
#include <unroll/io/file.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

using namespace unroll;
using io::read_file;
using io::write_atomically;
namespace fs = std::filesystem;

namespace {
struct stat status_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status;
}
}  // namespace

TEST_CASE("file: what is written is read, and nothing else is left behind") {
  TemporaryFolder folder;
  const fs::path path = folder.path / "f";
  std::string large(3'000'000, 'x');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7 + i / 256);
  for (const std::string& bytes :
       {std::string(), std::string("abc"), std::string("\0\n\xff", 3), large, std::string("shorter")}) {
    write_atomically(path, bytes);
    CHECK(read_file(path) == bytes);
    CHECK(folder.files() == 1);
  }
}

TEST_CASE("file: any bytes make a name") {
  TemporaryFolder folder;
  for (const std::string& name : {std::string("größe"), std::string("a\nb'c"), std::string("\xff\xfe"),
                                  std::string(255, 'n'), std::string(" ")}) {
    write_atomically(folder.path / name, name);
    CHECK(read_file(folder.path / name) == name);
  }
  CHECK(folder.files() == 5);
  CHECK_RAISES(IoError, "\\x0a\\xff': open: No such file or directory (errno 2)", read_file(folder.path / "\n\xff"));
  CHECK_RAISES(IoError, "errno 36", write_atomically(folder.path / std::string(256, 'n'), "x"));
  CHECK_RAISES(IoError, "errno 36", write_atomically(folder.path / std::string(5000, 'n'), "x"));
  CHECK_RAISES(IoError, "errno 22", write_atomically(folder.path / std::string("a\0b", 3), "x"));
  CHECK_RAISES(IoError, "errno 22", read_file(folder.path / std::string("a\0b", 3)));
  CHECK(folder.files() == 5);
}

TEST_CASE("file: a relative path needs no folder in it") {
  TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path);
  write_atomically("here", "x");
  CHECK(read_file("here") == "x");
  fs::current_path(before);
  CHECK(read_file(folder.path / "here") == "x");
}

TEST_CASE("file: what is no ordinary file") {
  TemporaryFolder folder;
  CHECK_RAISES(IoError, "write_atomically: ", write_atomically(folder.path, "x"));
  CHECK_RAISES(IoError, "errno 21", write_atomically(folder.path, "x"));
  CHECK_RAISES(IoError, "read: Is a directory (errno 21)", read_file(folder.path));
  CHECK_RAISES(IoError, "errno 2", write_atomically(folder.path / "missing" / "f", "x"));
  CHECK_RAISES(IoError, "errno 2", write_atomically("", "x"));
  std::ofstream(folder.path / "file") << "x";
  CHECK_RAISES(IoError, "errno 20", write_atomically(folder.path / "file" / "f", "x"));
  const std::string full = folder.full_device();
  CHECK_RAISES(IoError, "write: No space left on device (errno 28)", write_atomically(full, "x"));
  CHECK(fs::is_character_file(full));
  CHECK_RAISES(IoError, "not an ordinary file", read_file("/dev/zero"));
  REQUIRE(::mkfifo((folder.path / "pipe").c_str(), 0600) == 0);
  CHECK_RAISES(IoError, "not an ordinary file", read_file(folder.path / "pipe"));
}

TEST_CASE("file: a link stays a link and leads to the new file") {
  TemporaryFolder folder;
  fs::create_directory(folder.path / "real");
  fs::create_symlink("real/f", folder.path / "link");
  fs::create_symlink("link", folder.path / "link2");
  write_atomically(folder.path / "link2", "new");  // to a file that does not exist yet
  CHECK(fs::is_symlink(folder.path / "link"));
  CHECK(read_file(folder.path / "real" / "f") == "new");
  write_atomically(folder.path / "link2", "newer");
  CHECK(fs::is_symlink(folder.path / "link2"));
  CHECK(read_file(folder.path / "real" / "f") == "newer");
  fs::create_symlink("loop", folder.path / "loop");
  CHECK_RAISES(IoError, "errno 40", write_atomically(folder.path / "loop", "x"));
}

TEST_CASE("file: an error leaves the old file and nothing else") {
  TemporaryFolder folder;
  const fs::path path = folder.path / "f";
  write_atomically(path, "old");
  SUBCASE("the disk takes no more") {
    struct rlimit before;
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    auto* handler = std::signal(SIGXFSZ, SIG_IGN);
    struct rlimit little = before;
    little.rlim_cur = 4096;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &little) == 0);
    try {
      write_atomically(path, std::string(10000, 'x'));  // the first write is a short one, the second fails
      FAIL_CHECK("nothing was raised");
    } catch (const IoError& error) {
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
      CHECK(std::string(error.what()).find("write: File too large (errno 27)") != std::string::npos);
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
  }
  SUBCASE("no file can be opened") {
    struct rlimit before;
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit little = before;
    little.rlim_cur = 0;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &little) == 0);
    std::string text;
    try {
      write_atomically(path, "x");
    } catch (const IoError& error) {
      text = error.what();
    }
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(text.find("open: Too many open files (errno 24)") != std::string::npos);
  }
  SUBCASE("more links than the system follows") {
    fs::create_symlink("f", folder.path / "0");
    for (int i = 0; i < 40; ++i) fs::create_symlink(std::to_string(i), folder.path / std::to_string(i + 1));
    CHECK_RAISES(IoError, "errno 40", write_atomically(folder.path / "40", "x"));
    for (int i = 0; i <= 40; ++i) fs::remove(folder.path / std::to_string(i));
  }
  SUBCASE("the temporary file's name is a trap") {
    fs::create_symlink(folder.path / "elsewhere", folder.path / ".f.tmp");
    CHECK_RAISES(IoError, "errno 40", write_atomically(path, "x"));
    fs::remove(folder.path / ".f.tmp");
  }
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("file: what lies at the temporary file's name is neither written nor taken over") {
  TemporaryFolder folder;
  const fs::path path = folder.path / "f", temporary = folder.path / ".f.tmp", mine = folder.path / "mine";
  write_atomically(mine, "precious");
  fs::create_hard_link(mine, temporary);
  write_atomically(path, "x");
  CHECK(read_file(mine) == "precious");
  CHECK(read_file(path) == "x");

  fs::remove(path);
  write_atomically(temporary, "left");
  fs::permissions(temporary, fs::perms(04777));
  write_atomically(path, "x");
  struct stat is, fresh;
  REQUIRE(::stat(path.c_str(), &is) == 0);
  REQUIRE(::stat(mine.c_str(), &fresh) == 0);
  CHECK(is.st_mode == fresh.st_mode);

  REQUIRE(::mkfifo(temporary.c_str(), 0600) == 0);
  CHECK_RAISES(IoError, "errno 6", write_atomically(path, "y"));  // nobody reads it; and nobody is waited for
  CHECK(read_file(path) == "x");
}

TEST_CASE("file: a writer that is killed leaves the old file or the new one, and the next writer cleans up") {
  TemporaryFolder folder;
  const fs::path path = folder.path / "f";
  const std::string a(200'000, 'a'), b(100'000, 'b');
  write_atomically(path, a);
  for (int round = 0; round < 20; ++round) {
    pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (;;) {
        write_atomically(path, b);
        write_atomically(path, a);
      }
    }
    ::usleep(static_cast<useconds_t>(500 * (round + 1)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    std::string bytes = read_file(path);
    CHECK((bytes == a || bytes == b));
  }
  write_atomically(path, "last");
  CHECK(read_file(path) == "last");
  CHECK(folder.files() == 1);
}

TEST_CASE("file: several processes that write to one path") {
  TemporaryFolder folder;
  const fs::path path = folder.path / "f";
  pid_t children[3];
  for (int k = 0; k < 3; ++k) {
    children[k] = ::fork();
    REQUIRE(children[k] >= 0);
    if (children[k] == 0) {
      int status = 1;
      try {
        for (int i = 0; i < 20; ++i)
          write_atomically(path, std::string(50'000 + static_cast<std::size_t>(k), static_cast<char>('a' + k)));
        status = 0;
      } catch (...) {}
      ::_exit(status);
    }
  }
  for (int i = 0; i < 200; ++i) {
    if (!fs::exists(path)) continue;
    std::string bytes = read_file(path);
    CHECK(bytes.size() == 50'000 + static_cast<std::size_t>(bytes[0] - 'a'));
    CHECK(bytes.find_first_not_of(bytes[0]) == std::string::npos);
  }
  for (pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  CHECK(folder.files() == 1);
}

namespace {
int file_syncs = 0, folder_syncs = 0;
mode_t mode_when_locked = 0;  // which is before anything is written
bool has_locks = true;
}  // namespace
// In place of the C library's, to count.
extern "C" int fsync(int fd) {
  struct stat what {};
  ::fstat(fd, &what);
  ++(S_ISDIR(what.st_mode) ? folder_syncs : file_syncs);
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

// A file system without locks, where a test asks for one.
extern "C" int flock(int fd, int operation) {
  struct stat what {};
  if (::fstat(fd, &what) == 0) mode_when_locked = what.st_mode & 07777;
  if (has_locks) return static_cast<int>(::syscall(SYS_flock, fd, operation));
  errno = ENOSYS;
  return -1;
}

TEST_CASE("file: without locks, what another writes at the same time is left to it") {
  const TemporaryFolder folder;
  const fs::path path = folder.path / "f", others = folder.path / ".f.tmp";
  has_locks = false;
  write_atomically(path, "alone");
  CHECK(read_file(path) == "alone");
  CHECK(folder.files() == 1);
  std::ofstream(others) << "half";
  write_atomically(path, "beside");
  has_locks = true;
  CHECK(read_file(path) == "beside");
  CHECK(read_file(others) == "half");
  CHECK(folder.files() == 2);
}

TEST_CASE("file: an open pipe has a name in /dev") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  write_atomically("/dev/fd/" + std::to_string(ends[1]), "through");
  char bytes[16];
  CHECK(::read(ends[0], bytes, sizeof bytes) == 7);
  CHECK(std::string_view(bytes, 7) == "through");
  ::close(ends[0]), ::close(ends[1]);
}

TEST_CASE("file: it is synced before it takes its name, and so is the folder afterwards") {
  const TemporaryFolder folder;
  file_syncs = folder_syncs = 0;
  write_atomically(folder.path / "f", "x");
  CHECK(file_syncs == 1);
  CHECK(folder_syncs == 1);
}

TEST_CASE("file: all bits of the mode are kept, and a DEL in a name is told") {
  const TemporaryFolder folder;
  const std::string path = folder.path / "f";
  write_atomically(path, "x");
  REQUIRE(::chmod(path.c_str(), 02640) == 0);
  write_atomically(path, "y");
  CHECK((status_of(path).st_mode & 07777) == 02640);
  CHECK_THROWS_WITH_AS(read_file("/none/a\x7f"), doctest::Contains("\\x7f"), IoError);
}

TEST_CASE("file: while an old one is replaced, nobody else reads the new one") {
  const TemporaryFolder folder;
  const std::string path = folder.path / "f";
  write_atomically(path, "x");
  for (mode_t mode : {0640u, 0600u, 0777u}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    write_atomically(path, "y");
    CHECK((mode_when_locked & 077) == 0);
    CHECK((status_of(path).st_mode & 07777) == mode);
  }
}

TEST_CASE("file: owner and group are kept by who may give them, and else nobody runs it as somebody else") {
  if (::geteuid() != 0) return;  // who is not root may give nothing
  const TemporaryFolder folder;
  REQUIRE(::chmod(folder.path.c_str(), 0777) == 0);
  const std::string path = folder.path / "f";
  auto make = [&] {
    write_atomically(path, "x");
    REQUIRE(::chown(path.c_str(), 12345, 54321) == 0);
    REQUIRE(::chmod(path.c_str(), 06755) == 0);
  };
  make();
  write_atomically(path, "by root");
  struct stat now = status_of(path);
  CHECK(now.st_uid == 12345);
  CHECK(now.st_gid == 54321);
  CHECK((now.st_mode & 07777) == 06755);
#ifndef __SANITIZE_THREAD__
  make();
  CHECK(in_child([&] {
          if (::setgroups(0, nullptr) != 0 || ::setgid(777) != 0 || ::setuid(777) != 0) return 2;
          write_atomically(path, "by another");
          return 1;
        }) == 1);
  now = status_of(path);
  CHECK(now.st_uid == 777);
  CHECK(now.st_gid == 777);
  CHECK((now.st_mode & 07777) == 0755);
#endif
}

TEST_CASE("file: what has no name any more is written where it is") {
  const TemporaryFolder folder;
  const int file = ::open((folder.path / "f").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(file != -1);
  REQUIRE(::write(file, "what was there", 14) == 14);
  fs::remove(folder.path / "f");
  const fs::path link = "/proc/self/fd/" + std::to_string(file);
  fs::create_symlink(link, folder.path / "link");
  for (const fs::path& path : {link, folder.path / "link"}) {
    write_atomically(path, path.native());
    CHECK(read_file(link) == path.native());
  }
  CHECK(folder.files() == 1);  // the link; none is called "f (deleted)"
  ::close(file);
}

#ifndef __SANITIZE_ADDRESS__  // whose allocator ends the process
TEST_CASE("file: one that does not fit into memory") {
  const int file = ::memfd_create("large", MFD_CLOEXEC);
  REQUIRE(::ftruncate(file, off_t{1} << 50) == 0);
  CHECK_RAISES(OutOfMemory, "1125899906842624 bytes", read_file("/proc/self/fd/" + std::to_string(file)));
  ::close(file);
}
#endif

TEST_CASE("file: a signal while another writer is waited for is no error") {
  const TemporaryFolder folder;
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  const int lock = ::open((folder.path / ".f.tmp").c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(::flock(lock, LOCK_EX) == 0);
  std::string error;
  std::thread writer([&] {
    try {
      write_atomically(folder.path / "f", "x");
    } catch (const std::exception& caught) {
      error = caught.what();
    }
  });
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ::pthread_kill(writer.native_handle(), SIGUSR1);
  }
  ::close(lock);
  writer.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  CHECK(error.empty());
}

TEST_CASE("file: a file of which the system tells no size is read to its end") {
  CHECK(read_file("/proc/self/status").find("Pid:") != std::string::npos);
}
