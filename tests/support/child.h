#pragma once
#include <sys/wait.h>
#include <unistd.h>

#ifndef __SANITIZE_THREAD__  // which does not follow a fork
/// What f() returns, 0 to 254, in a process that is forked for it; -1 if it raises or does not come to an end.
template <class F>
int in_child(const F& f) {
  constexpr int kRaised = 255;
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // it may wait for a thread that it does not have
    try {
      _exit(f());
    } catch (...) {
      _exit(kRaised);
    }
  }
  int status = -1;
  const bool ended = waitpid(child, &status, 0) == child && WIFEXITED(status);
  return ended && WEXITSTATUS(status) != kRaised ? WEXITSTATUS(status) : -1;
}
#endif
