#pragma once
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
/// Whole files. All errors are IoErrors that hold the path (of the file or, if that is the trouble, of its folder), the
/// system call and what it said; but OutOfMemory if a file does not fit.
namespace unroll::io {

/// Makes `path` hold `bytes`, whatever happens meanwhile: at each moment, also after a crash or a power failure, the
/// path leads to the old file or to all of the new one, and once this has returned to the new one. An error leaves the
/// old file as it was; only if the folder's fsync fails is the new one there, but might not outlive a power failure.
///
/// A symbolic link is followed and stays. An existing file keeps its permissions, and its owner and group as far as we
/// may give them; extended attributes go, and other hard links keep what was there. The new one is written beside it as
/// ".NAME.tmp", a name that is ours, and, if it replaces another, its owner's alone until it is whole.
/// Processes that write to the same path at the same time wait for each other, also for one that was forked off a save
/// and lives on; on a file system without flock(2) the last one to finish wins, and each has a temporary file of its
/// own, which a killed one leaves.
///
/// What is no ordinary file (a device, a pipe) or is reached by way of /proc (as /dev/stdout is) is written directly. A
/// pipe is waited for until somebody reads it, and SIGPIPE comes when nobody does any more, unless the process ignores
/// it.
void write_atomically(const std::string& path, std::string_view bytes);

/// The contents of an ordinary file.
std::string read_file(const std::string& path);

}  // namespace unroll::io
#pragma GCC visibility pop
