#include "common/parallel.h"

#include <unistd.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "common/float_state.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace deeplab_native {
namespace {

// Some tens of microseconds: longer than the usual skew between threads, shorter than a time slice,
// so that two threads that were put on one core hand it over instead of spinning it away.
constexpr int kSpins = 2000;

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

thread_local bool t_in_region = false;

// Leaves a region because of what another thread threw.
struct Abandoned {};

class Pool {
 public:
  Pool() : owner_(getpid()) {}
  Pool(const Pool&) = delete;
  ~Pool() {
    stop_ = true;
    publish();
    for (auto& thread : threads_) thread.join();
  }

  bool belongs_here() const { return owner_ == getpid(); }

  void run(int num_threads, const std::function<void(Team&)>& body) {
    body_ = &body;
    size_ = num_threads;
    errors_.assign(num_threads, nullptr);
    shared_.arrived = 0;  // some may have waited when another threw
    shared_.failed = false;
    while (static_cast<int>(threads_.size()) < num_threads - 1) {
      start_thread(static_cast<int>(threads_.size()) + 1, num_threads);
    }
    // Every worker answers every epoch, also those that sit it out: none can mistake one region
    // for the next.
    pending_.store(static_cast<uint32_t>(threads_.size()), std::memory_order_relaxed);
    publish();
    run_share(0);
    for (uint32_t left; (left = pending_.load(std::memory_order_acquire)) != 0;) {
      wait_for_change(pending_, left);
    }
    for (auto& error : errors_) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  void start_thread(int id, int num_threads) {
    try {
      threads_.emplace_back([this, id, seen = epoch_.load()] { work(id, seen); });
    } catch (const std::system_error& error) {
      throw std::runtime_error("cannot start thread " + std::to_string(id + 1) + " of " +
                               std::to_string(num_threads) + ": " + error.code().message() +
                               " (use fewer threads, or raise the limits of memory and processes)");
    }
  }

  void publish() {
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }

  void work(int id, uint32_t seen) {
    const OwnFloatState state;  // not what the thread that made this one had at that moment
    t_in_region = true;
    for (;;) {
      wait_for_change(epoch_, seen);
      ++seen;
      if (stop_) return;
      if (id < size_) run_share(id);
      pending_.fetch_sub(1, std::memory_order_acq_rel);
      pending_.notify_one();
    }
  }

  void run_share(int id) {
    Team team(shared_, id, size_);
    try {
      (*body_)(team);
    } catch (const Abandoned&) {
    } catch (...) {
      errors_[id] = std::current_exception();
      shared_.failed = true;
      shared_.phase.fetch_add(1, std::memory_order_release);  // wakes those who wait
      shared_.phase.notify_all();
    }
  }

  const pid_t owner_;
  std::vector<std::thread> threads_;
  std::vector<std::exception_ptr> errors_;
  Team::Shared shared_;
  const std::function<void(Team&)>* body_ = nullptr;
  int size_ = 0;  // written before, read after epoch_ changes
  bool stop_ = false;
  std::atomic<uint32_t> epoch_{0}, pending_{0};
};

struct PoolOwner {
  std::unique_ptr<Pool> pool;
  // The threads of a pool inherited through fork() do not exist: it can be neither used nor joined.
  void drop_inherited() {
    if (pool && !pool->belongs_here()) (void)pool.release();
  }
  ~PoolOwner() { drop_inherited(); }
};

thread_local PoolOwner t_owner;

}  // namespace

void Team::barrier() {
  if (size_ == 1) return;
  const uint32_t phase = shared_.phase.load(std::memory_order_acquire);
  if (shared_.failed) throw Abandoned();  // after phase was read: what changes it later wakes us
  if (shared_.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(size_)) {
    shared_.arrived.store(0, std::memory_order_relaxed);
    shared_.phase.fetch_add(1, std::memory_order_release);
    shared_.phase.notify_all();
  } else {
    wait_for_change(shared_.phase, phase);
  }
  if (shared_.failed) throw Abandoned();
}

void run_team(int num_threads, const std::function<void(Team&)>& body) {
  if (num_threads <= 1 || t_in_region) {
    Team::Shared shared;
    Team alone(shared, 0, 1);
    body(alone);
    return;
  }
  t_owner.drop_inherited();
  if (!t_owner.pool) t_owner.pool = std::make_unique<Pool>();
  t_in_region = true;
  struct Leave {
    ~Leave() { t_in_region = false; }
  } leave;
  t_owner.pool->run(num_threads, body);
}

}  // namespace deeplab_native
