// What the emulator must get right, and bugs it must find: run_planted() by name, in a process of
// its own, from native/test_emulation.py. Correct kernels return 0, wrong results another number.
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/compat.cuh"

namespace deeplab_native {
namespace {

constexpr int kThreads = 96;  // three warps

// ---- bugs ----
__global__ void read_behind_kernel(const int* in, int* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) out[0] += in[i];
}
__global__ void write_behind_static_kernel(int* out) {
  __shared__ int values[kThreads];
  int* unbounded = values;  // UBSan knows an array's bounds, ASan those of its memory
  unbounded[threadIdx.x + 1] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}
__global__ void write_behind_dynamic_kernel(int* out, int n) {
  DEEPLAB_DYNAMIC_SHARED(int, values);
  for (int i = threadIdx.x; i <= n; i += blockDim.x) values[i] = i;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x % n];
}
__global__ void no_barrier_kernel(int* out) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}
// The barrier between a block's rounds is missing: a fast thread writes what a slow one still reads
__global__ void no_second_barrier_kernel(int* out) {
  __shared__ int values[kThreads];
  for (int round = 0; round < 2; ++round) {
    values[threadIdx.x] = round * 1000 + static_cast<int>(threadIdx.x);
    __syncthreads();
    out[round * kThreads + threadIdx.x] = values[kThreads - 1 - threadIdx.x];
  }
}
__global__ void no_syncwarp_kernel(int* out) {
  __shared__ int values[32];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = values[31 - threadIdx.x];
}
__global__ void last_writer_kernel(int* out) { out[0] = static_cast<int>(threadIdx.x); }
__global__ void float_sum_kernel(float* out) { atomicAdd(out, 1.0f / float(threadIdx.x + 1)); }
__global__ void divergent_barrier_kernel(int* out) {
  if (threadIdx.x % 32 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  out[threadIdx.x] = 1;
}
__global__ void not_in_mask_kernel(int* out) {
  out[threadIdx.x] = __shfl_sync(0xFFFFu, static_cast<int>(threadIdx.x), 0);
}
__global__ void misaligned_kernel(const float* in, float* out) {
  out[threadIdx.x] = reinterpret_cast<const float4*>(in + 1)[threadIdx.x].x;
}
__global__ void overflow_kernel(const int* in, int* out) { out[threadIdx.x] = in[0] * in[1]; }

// ---- correct kernels, one for each group of built-ins ----
__global__ void barriers_kernel(int* out) {
  __shared__ int values[kThreads];
  if (threadIdx.x >= 80) return;  // those that have ended count as arrived
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = round * 1000 + static_cast<int>(threadIdx.x);
    __syncthreads();
    const int other = values[79 - threadIdx.x];
    __syncthreads();
    out[round * kThreads + threadIdx.x] = other;
  }
}
__global__ void syncwarp_kernel(int* out) {
  __shared__ int values[kThreads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  out[threadIdx.x] = values[warp * 32 + 31 - lane];
}
__global__ void shuffles_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int* mine = out + 6 * t;
  mine[0] = __shfl_sync(~0u, t, 5);
  mine[1] = __shfl_up_sync(~0u, t, 3);
  mine[2] = __shfl_down_sync(~0u, t, 3);
  mine[3] = __shfl_xor_sync(~0u, t, 7);
  mine[4] = __shfl_sync(~0u, t, 1, 8);
  const uint32_t half = t % 32 < 16 ? 0xFFFFu : 0xFFFF0000u;  // the halves diverge
  mine[5] = static_cast<int>(__shfl_xor_sync(half, double(t), 1));
}
__global__ void votes_kernel(int* out) {  // the last warp of 80 threads is half a warp
  const int t = static_cast<int>(threadIdx.x);
  const uint32_t mask = t < 64 ? ~0u : 0xFFFFu;
  out[3 * t] = static_cast<int>(__ballot_sync(mask, t % 3 == 0));
  out[3 * t + 1] = __any_sync(mask, t == 40);
  out[3 * t + 2] = __all_sync(mask, t < 64);
}
struct Sums {
  int added, largest, smallest, bits, ticket, claimed;
  unsigned long long wide;
  float real;
  double precise;
};
__global__ void atomics_kernel(Sums* s) {
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&s->added, t);
  atomicMax(&s->largest, t);
  atomicMin(&s->smallest, -t);
  atomicOr(&s->bits, 1 << t % 24);
  atomicAdd(&s->wide, 1ull << 33);
  atomicAdd(&s->real, 0.25f);
  atomicAdd(&s->precise, 0.5);
  if (atomicCAS(&s->claimed, 0, 7) == 0) atomicAdd(&s->ticket, 1);  // one thread claims it
}
__global__ void dynamic_shared_kernel(double* out) {
  DEEPLAB_DYNAMIC_SHARED(double, values);
  values[threadIdx.x] = threadIdx.x + 100.0 * blockIdx.x;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}
__global__ void indices_kernel(int* out) {
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1000 * block + thread;
}

template <class T>
struct Memory {  // of exactly n elements, so that the next byte is out of bounds
  explicit Memory(int n) : size(n), data(new T[n]()) {}
  operator T*() const { return data.get(); }
  template <class Expected>
  int differs(const Expected& expected) const {
    for (int i = 0; i < size; ++i) {
      if (data[i] != static_cast<T>(expected(i))) return 1;
    }
    return 0;
  }
  int size;
  std::unique_ptr<T[]> data;
};

template <class... Parameters, class... Arguments>
void go(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
        const Arguments&... args) {
  launch(kernel, grid, block, shared, nullptr, static_cast<Parameters>(args)...);
}

int run_bug(const char* name) {
  const auto is = [&](const char* other) { return std::strcmp(name, other) == 0; };
  Memory<int> out(2 * kThreads), in(kThreads);
  Memory<float> reals(4 * 32 + 4);
  if (is("read_behind")) go(read_behind_kernel, 2, 64, 0, in, out, kThreads);
  if (is("write_behind_static")) go(write_behind_static_kernel, 1, kThreads, 0, out);
  if (is("write_behind_dynamic")) {
    go(write_behind_dynamic_kernel, 1, kThreads, 4 * 1001, out, 1000);  // memory from a larger one
    go(write_behind_dynamic_kernel, 1, kThreads, 4 * 10, out, 10);
  }
  if (is("no_barrier")) go(no_barrier_kernel, 1, kThreads, 0, out);
  if (is("no_second_barrier")) go(no_second_barrier_kernel, 1, kThreads, 0, out);
  if (is("no_syncwarp")) go(no_syncwarp_kernel, 1, 32, 0, out);
  if (is("last_writer")) go(last_writer_kernel, 1, kThreads, 0, out);
  if (is("float_sum")) go(float_sum_kernel, 1, kThreads, 0, reals);
  if (is("divergent_barrier")) go(divergent_barrier_kernel, 1, kThreads, 0, out);
  if (is("not_in_mask")) go(not_in_mask_kernel, 1, 32, 0, out);
  if (is("misaligned")) {
    go(misaligned_kernel, 1, 32, 0, reals, Memory<float>(32));
  }
  if (is("overflow")) {
    in[0] = in[1] = 1 << 20;
    go(overflow_kernel, 1, 32, 0, in, out);
  }
  // a digest of the result, which a schedule must not change
  unsigned digest = 0;
  for (int i = 0; i < out.size; ++i) digest = digest * 31 + static_cast<unsigned>(out[i]);
  unsigned bits;
  std::memcpy(&bits, static_cast<float*>(reals), sizeof bits);
  return static_cast<int>((digest + bits) % 251);
}

int run_correct(const char* name) {
  const auto is = [&](const char* other) { return std::strcmp(name, other) == 0; };
  if (is("barriers")) {
    Memory<int> out(3 * kThreads);
    go(barriers_kernel, 2, kThreads, 0, out);
    return out.differs([](int i) {
      const int round = i / kThreads, thread = i % kThreads;
      return thread < 80 ? round * 1000 + 79 - thread : 0;
    });
  }
  if (is("syncwarp")) {
    Memory<int> out(kThreads);
    go(syncwarp_kernel, 1, kThreads, 0, out);
    return out.differs([](int i) { return i / 32 * 32 + 31 - i % 32; });
  }
  if (is("shuffles")) {
    Memory<int> out(6 * kThreads);
    go(shuffles_kernel, 1, kThreads, 0, out);
    return out.differs([](int i) {
      const int t = i / 6, lane = t % 32, first = t - lane;
      const int expected[] = {first + 5,          lane < 3 ? t : t - 3, lane > 28 ? t : t + 3,
                              first + (lane ^ 7), t / 8 * 8 + 1,        first + (lane ^ 1)};
      return expected[i % 6];
    });
  }
  if (is("votes")) {
    Memory<int> out(3 * 80);
    go(votes_kernel, 1, 80, 0, out);
    return out.differs([](int i) {
      const int t = i / 3, first = t / 32 * 32;
      uint32_t ballot = 0;
      for (int lane = 0; lane < (t < 64 ? 32 : 16); ++lane) {
        ballot |= uint32_t{(first + lane) % 3 == 0} << lane;
      }
      const int expected[] = {static_cast<int>(ballot), first == 32, t < 64};
      return expected[i % 3];
    });
  }
  if (is("atomics")) {
    Memory<Sums> sums(1);
    go(atomics_kernel, 3, kThreads, 0, sums);
    const Sums& s = sums[0];
    const int n = 3 * kThreads;
    return s.added != n * (n - 1) / 2 || s.largest != n - 1 || s.smallest != 1 - n ||
           s.bits != (1 << 24) - 1 || s.wide != (1ull << 33) * n || s.real != 0.25f * n ||
           s.precise != 0.5 * n || s.claimed != 7 || s.ticket != 1;
  }
  if (is("dynamic_shared")) {
    Memory<double> out(3 * kThreads);
    go(dynamic_shared_kernel, 3, kThreads, kThreads * sizeof(double), out);
    return out.differs([](int i) { return kThreads - 1 - i % kThreads + 100.0 * (i / kThreads); });
  }
  if (is("indices")) {
    Memory<int> out(24 * 30);
    go(indices_kernel, dim3(2, 3, 4), dim3(5, 3, 2), 0, out);
    return out.differs([](int i) { return 1000 * (i / 30) + i % 30; });
  }
  return 2;
}

}  // namespace
}  // namespace deeplab_native

// 0 of a correct kernel: right; of a bug that no sanitizer stopped: a digest of the result.
extern "C" __attribute__((visibility("default"))) int run_planted(const char* name, bool bug) {
  return bug ? deeplab_native::run_bug(name) : deeplab_native::run_correct(name);
}
