#!/usr/bin/env bash
# consume.sh WAY WORK PREFIX: configure, build and run the consumer in this folder, in WORK, with the library got in the given
# WAY: find_package, pkg_config (both from the install tree PREFIX), fetch_content or add_subdirectory (from the sources).
set -euo pipefail

way=$1 work=$2 prefix=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
generator=(-G "${CMAKE_GENERATOR:-Ninja}")

rm -rf "$work"
mkdir -p "$work"
cd "$work"

configure() { cmake "${generator[@]}" -S "$here" -B . -DCONSUME="$way" -DUNROLL_SOURCE="$here/../.." "$@"; }

case $way in
  find_package)
    configure -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
    cmake --build .
    ./consumer
    ;;
  pkg_config)
    # One line of the README: flags word by word, as the shell of whoever types it would split them.
    eval "${CXX:-c++} -std=c++20 -Wall -Wextra -Werror '$here/main.cpp' -o consumer $(pkg-config --cflags --libs unroll)"
    ./consumer
    # Folders that are no part of a prefix are named as they were given.
    cmake "${generator[@]}" -S "$here/../.." -B elsewhere -DUNROLL_BUILD_TESTS=OFF -DUNROLL_BUILD_EXAMPLES=OFF \
      -DCMAKE_INSTALL_LIBDIR=/a/lib -DCMAKE_INSTALL_INCLUDEDIR=/b/include
    [ "$(pkg-config --variable=libdir elsewhere/unroll.pc) $(pkg-config --variable=includedir elsewhere/unroll.pc)" = "/a/lib /b/include" ]
    ;;
  fetch_content)
    # The one way here that compiles the whole library again, so it also is the test that the shared library works.
    # Nothing is trained: not optimising makes it three times quicker.
    configure -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DUNROLL_SHARED=ON
    cmake --build . --target consumer
    ./consumer
    ;;
  add_subdirectory)
    # FetchContent ends in add_subdirectory, so what is left to see is that the target exists and brings its headers and
    # flags along: compile the consumer, leave the library out.
    configure
    cmake --build . --target CMakeFiles/consumer.dir/main.cpp.o
    ;;
  *)
    echo "consume.sh: unknown way $way" >&2
    exit 2
    ;;
esac
