# Sourced by the scripts here: which Debian packages what needs, and `need`, which installs those that are missing.
# shellcheck shell=bash disable=SC2034

build_packages=(g++ cmake ninja-build pkg-config libopenblas-openmp-dev libhwy-dev libfmt-dev doctest-dev nlohmann-json3-dev libcli11-dev)
demo_packages=(miscfiles)
bench_packages=(libbenchmark-dev python3)  # without them bench/parts is not built or bench/ is not tested; nothing else is missed
ci_packages=(clang clang-format)
neon_packages=(g++-aarch64-linux-gnu qemu-user libopenblas-openmp-dev:arm64 libhwy-dev:arm64 libfmt-dev:arm64)

# need PACKAGE[:ARCHITECTURE]...: without network, without apt or without the right to install it says so and goes on, since
# what is needed may be there under another name; if not, the next step says what it misses.
need() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 0
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  echo "installing ${missing[*]}"
  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" -eq 0 ] || as_root=(sudo "${as_root[@]}")
  {
    for package in "${missing[@]}"; do
      [[ $package != *:* ]] || "${as_root[@]}" dpkg --add-architecture "${package#*:}"
    done
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
  } </dev/null >/dev/null || echo "could not install ${missing[*]}; going on without" >&2
}
