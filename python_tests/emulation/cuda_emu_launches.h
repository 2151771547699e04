// Which kernels have run, for python_tests/emulation/sanitize.py, and which of their blocks TSan
// watches: all of them would take it a quarter of an hour.
#pragma once
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emu {

// Blocks of a launch. They run one after the other, so that TSan finds in each what it does alone:
// those at the ends of the grid, where threads have nothing to do, and two others stand for all.
struct Watch {
  enum { kNone, kSome, kAll } which;
  uint64_t blocks;

  bool block(uint64_t i) const {
    return which == kAll || (which == kSome && (i < 2 || i == blocks / 2 || i + 1 == blocks));
  }
};

// The first launches of a kernel in a form, and then rarer and rarer ones.
inline bool is_watched(unsigned launch) { return launch <= 2 || (launch & (launch - 1)) == 0; }

// Threads of a block; bytes and blocks that differ by less than a factor of two are one form.
using Form = std::array<unsigned, 7>;
inline Form form_of(dim3 grid, dim3 dim, size_t smem) {
  const auto size = [](uint64_t n) { return static_cast<unsigned>(std::bit_width(n)); };
  return {dim.x, dim.y, dim.z, size(grid.x), size(grid.y), size(grid.z), size(smem)};
}

// A line "offset of the kernel in its module" for every kernel of this process that has run, in a
// file of the folder CUDA_EMU_LAUNCHES.
inline void note_launch(const void* kernel) {
  static const char* folder = std::getenv("CUDA_EMU_LAUNCHES");
  Dl_info module;
  if (folder == nullptr || dladdr(kernel, &module) == 0) return;
  const std::string path = std::string(folder) + "/" + std::to_string(getpid());
  if (std::FILE* file = std::fopen(path.c_str(), "a")) {
    std::fprintf(file, "%tx\n",
                 static_cast<const char*>(kernel) - static_cast<const char*>(module.dli_fbase));
    std::fclose(file);
  }
}

// Called with the device's mutex held.
inline Watch count_launch(const void* kernel, dim3 grid, dim3 dim, size_t smem) {
  static std::map<const void*, std::map<Form, unsigned>> launches;
  static const char* all = std::getenv("CUDA_EMU_WATCH");
  const auto [forms, is_new] = launches.try_emplace(kernel);
  if (is_new) note_launch(kernel);
  const unsigned launch = ++forms->second[form_of(grid, dim, smem)];
  const bool every = all != nullptr && std::strcmp(all, "all") == 0;
  return {every                ? Watch::kAll
          : is_watched(launch) ? Watch::kSome
                               : Watch::kNone,
          uint64_t{grid.x} * grid.y * grid.z};
}

}  // namespace emu
