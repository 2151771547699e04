// Bugs that the sanitizers must find in code that is built as the native module is, and the same
// without the bug, of which they must say nothing: test_sanitizers.py.
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace {

using deeplab_native::Buffer;
using deeplab_native::run_team;
using deeplab_native::Team;
namespace simd = deeplab_native::DEEPLAB_ISA;

constexpr int kThreads = 3;

// ---- races ----
int neighbours(bool bug) {
  std::vector<int> values(kThreads), sums(kThreads);
  run_team(kThreads, [&](Team& team) {
    values[team.id()] = 1;
    if (!bug) team.barrier();
    sums[team.id()] = values[(team.id() + 1) % kThreads];
  });
  return 0;
}

// As neighbours, by functions of the C library, with sizes that the compiler does not know.
int copies(bool bug) {
  const volatile size_t bytes = 64;
  const size_t size = bytes;
  std::vector<char> values(size * kThreads), other(size);
  run_team(kThreads, [&](Team& team) {
    std::memset(values.data() + size * team.id(), 1, size);
    if (!bug) team.barrier();
    if (team.id() == 0) std::memcpy(other.data(), values.data() + size, size);
  });
  return 0;
}

// As neighbours, by the loads and stores of the kernels.
template <int kLanes>
int vectors(bool bug) {
  std::vector<float> values(kLanes * kThreads), sums(kLanes * kThreads);
  run_team(kThreads, [&](Team& team) {
    const int next = (team.id() + 1) % kThreads;
    const auto ones = simd::broadcast<float, kLanes>(1);
    simd::store<float, kLanes>(values.data() + kLanes * team.id(), ones);
    if (!bug) team.barrier();
    const auto sum = simd::load<float, kLanes>(values.data() + kLanes * next) + ones;
    simd::store<float, kLanes>(sums.data() + kLanes * team.id(), sum);
  });
  return 0;
}

// Two calls, by threads of Python, that share something without a lock. Both are within the call at
// the same time: the lock of Python's interpreter orders what comes before and behind.
int calls(bool bug) {
  static std::mutex mutex;
  static int shared = 0;
  static std::atomic<int> arrived{0};
  arrived.fetch_add(1, std::memory_order_relaxed);
  while (arrived.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
  std::unique_lock<std::mutex> lock(mutex, std::defer_lock);
  if (!bug) lock.lock();
  ++shared;
  return 0;
}

// ---- memory ----
// Rounded up to 64 bytes, and not to be used.
int behind_buffer(bool bug) {
  Buffer<float> buffer(10);
  std::memset(buffer.data(), 0, (bug ? 11 : 10) * sizeof(float));
  return 0;
}

// A large block is kept, and used again where less is asked for.
int behind_kept(bool bug) {
  constexpr size_t kMost = size_t{1} << 20, kLess = kMost - 1000;
  for (const size_t size : {kMost, kLess}) {
    Buffer<float> buffer(size);
    const volatile float read = (buffer[0] = 1, buffer[kLess - 1] = 1, buffer[bug ? kLess : 0]);
    if (size == kMost) continue;
    return read == 7;
  }
  return 0;
}

int kept(bool bug) {
  Buffer<float> buffer(size_t{1} << 20);
  float* const data = buffer.data();
  if (bug) Buffer<float>(std::move(buffer));  // freed here, but not given back to the system
  data[0] = 1;
  return 0;
}

int behind_vector(bool bug) {
  std::vector<int> values;
  values.reserve(16);
  values.push_back(1);
  int* const data = values.data();
  data[bug ? 5 : 0] = 1;
  return 0;
}

int leak(bool bug) {
  auto* const memory = new int[12345]();
  const int first = memory[0];
  if (!bug) delete[] memory;
  return first;
}

// ---- undefined behaviour ----
int cast(bool bug) {
  const volatile float large = bug ? 3e9f : 3e8f;
  return static_cast<int>(large) == 7;
}

int null_memset(bool bug) {
  Buffer<float> empty;
  const volatile size_t none = 0;
  if (bug) std::memset(empty.data(), 0, none);
  return 0;
}

const struct {
  const char* name;
  int (*run)(bool bug);
} kPlanted[] = {{"neighbours", neighbours},
                {"copies", copies},
                {"vectors", vectors<4>},
                {"long_vectors", vectors<16>},
                {"calls", calls},
                {"behind_buffer", behind_buffer},
                {"behind_kept", behind_kept},
                {"kept", kept},
                {"behind_vector", behind_vector},
                {"leak", leak},
                {"cast", cast},
                {"null_memset", null_memset}};

}  // namespace

extern "C" __attribute__((visibility("default"))) int run_planted(const char* name, bool bug) {
  for (const auto& planted : kPlanted) {
    if (std::string(name) == planted.name) return planted.run(bug);
  }
  return 100;
}
