#include "common/buffer.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace deeplab_native {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// From here on memory comes in huge pages, and is kept. Rows are visited in the order of the
// image's colours: on small pages most visits would miss the TLB.
constexpr size_t kLarge = size_t{1} << 20;

struct Kept {
  std::mutex mutex;
  std::vector<Block> blocks;
  std::atomic<size_t> bytes{0};  // written with the mutex held, read without it, too
};

Kept& kept() {
  static Kept* const k = new Kept;  // never destroyed: buffers may outlive static objects
  return *k;
}

size_t unit_of(size_t bytes) { return bytes >= kHugePage ? kHugePage : 64; }

size_t whole_units(size_t bytes) {
  const size_t unit = unit_of(bytes);
  return (bytes + unit - 1) / unit * unit;
}

Block allocate(size_t bytes) {
  const size_t unit = unit_of(bytes);
  void* data = std::aligned_alloc(unit, bytes);
  if (!data) {
    release_kept_blocks();
    data = std::aligned_alloc(unit, bytes);
    if (!data) throw std::bad_alloc();
  }
#if defined(__linux__)
  if (unit == kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return {data, bytes};
}

}  // namespace

size_t most_kept_bytes() {
  static const size_t most = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const size_t memory = pages > 0 && page > 0 ? size_t(pages) * size_t(page) : 0;
    return std::clamp(memory / 8, size_t{256} << 20, size_t{1} << 30);
  }();
  return most;
}

Block take_block(size_t bytes) {
  bytes = whole_units(bytes);
  if (bytes >= kLarge) {
    Kept& k = kept();
    // Only tried, here and below: a child forked while another thread held it must not wait.
    const std::unique_lock lock(k.mutex, std::try_to_lock);
    if (!lock) return allocate(bytes);
    auto best = k.blocks.end();  // the smallest that fits and is not wastefully large
    for (auto it = k.blocks.begin(); it != k.blocks.end(); ++it) {
      if (it->bytes >= bytes && it->bytes / 2 <= bytes &&
          (best == k.blocks.end() || it->bytes < best->bytes)) {
        best = it;
      }
    }
    if (best != k.blocks.end()) {
      const Block block = *best;
      k.bytes -= block.bytes;
      k.blocks.erase(best);
      return block;
    }
  }
  return allocate(bytes);
}

void return_block(Block block) {
  if (!block.data) return;
  if (block.bytes >= kLarge && block.bytes <= most_kept_bytes()) {
    Kept& k = kept();
    const std::unique_lock lock(k.mutex, std::try_to_lock);
    if (!lock) return std::free(block.data);
    // the oldest go first: sizes that are no longer asked for do not stay
    while (k.bytes + block.bytes > most_kept_bytes()) {
      k.bytes -= k.blocks.front().bytes;
      std::free(k.blocks.front().data);
      k.blocks.erase(k.blocks.begin());
    }
    // called by destructors, which must not throw
    try {
      set_used(block, 0);
      k.blocks.push_back(block);
    } catch (const std::bad_alloc&) {
      return std::free(block.data);
    }
    k.bytes += block.bytes;
    return;
  }
  std::free(block.data);
}

void release_kept_blocks() {
  Kept& k = kept();
  const std::unique_lock lock(k.mutex, std::try_to_lock);
  if (!lock) return;
  for (const Block& block : k.blocks) std::free(block.data);
  k.blocks.clear();
  k.bytes = 0;
}

size_t kept_bytes() { return kept().bytes; }

#if defined(__SANITIZE_ADDRESS__)
void set_used(Block block, size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(block.data, bytes);
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(block.data) + bytes, block.bytes - bytes);
}
#endif

}  // namespace deeplab_native
