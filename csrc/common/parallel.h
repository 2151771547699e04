// Threads of the CPU kernels: the only place that creates any.
//
// Why not OpenMP: libgomp hangs in a child that was forked after its parent used a parallel region,
// which is what data loader workers do. Here every calling thread owns its workers, and a pool that
// was inherited through fork() is recognised and replaced.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

namespace deeplab_native {

// One thread's view of a parallel region.
class Team {
 public:
  struct Shared {
    std::atomic<uint32_t> arrived{0};
    std::atomic<uint32_t> phase{0};
    std::atomic<bool> failed{false};  // a thread threw: nobody waits for it any more
  };
  Team(Shared& shared, int id, int size) : shared_(shared), id_(id), size_(size) {}

  int id() const { return id_; }      // 0 is the calling thread
  int size() const { return size_; }  // threads in the region
  // Waits for all threads of the region. Where one of them has thrown, throws, too: a region must
  // not swallow what comes out of it.
  void barrier();

  // This thread's contiguous share of [0, n): the same at every call, so results do not vary.
  int64_t begin(int64_t n) const { return n * id_ / size_; }
  int64_t end(int64_t n) const { return n * (id_ + 1) / size_; }

 private:
  Shared& shared_;
  int id_, size_;
};

// Runs body once on each of num_threads threads (at least one) and waits; the exception of the
// first thread that threw one of its own is thrown again here.
void run_team(int num_threads, const std::function<void(Team&)>& body);

// Bytes that one thread moves before waking a second one pays.
constexpr int64_t kGrainBytes = 1 << 16;

// body(begin, end) over disjoint ranges of [0, n), at least `grain` long.
template <class Body>
void parallel_for(int num_threads, int64_t n, int64_t grain, const Body& body) {
  const int64_t most = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  const int threads = static_cast<int>(std::min<int64_t>(std::max(1, num_threads), most));
  run_team(threads, [&](Team& team) { body(team.begin(n), team.end(n)); });
}

}  // namespace deeplab_native
