// `load_plugin FILE` loads a library that uses unroll and runs it: thread_local memory must be found for it then, of
// which the dynamic linker keeps little.
#include <dlfcn.h>
#include <cstdio>

int main(int argc, char** argv) {
  void* plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW) : nullptr;
  void* train = plugin != nullptr ? dlsym(plugin, "unroll_train") : nullptr;
  if (train == nullptr) {
    const char* error = dlerror();
    std::fprintf(stderr, "load_plugin: %s\n", error != nullptr ? error : "no file given");
    return 1;
  }
  const double square = reinterpret_cast<double (*)()>(train)();
  std::printf("a gradient whose square is %g\n", square);
  return square > 0 ? 0 : 1;
}
