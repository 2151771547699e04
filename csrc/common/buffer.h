// Uninitialised memory on cache line boundaries, in large pieces that are kept for the next call.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace deeplab_native {

// blocks of half a megabyte and more are kept when they are freed, up to most_kept_bytes() in all:
// fresh memory has to be cleared by the kernel, a fifth to a third of the time of a whole dense
// CRF.
size_t most_kept_bytes();  // an eighth of the machine's memory, 256 MiB to 1 GiB

struct Block {
  void* data = nullptr;
  size_t bytes = 0;
};
Block take_block(size_t bytes);  // at least so many bytes; throws std::bad_alloc
void return_block(Block block);
// Says how much of a block is in use: under the address sanitizer, what lies behind is out of
// bounds, although it is memory of ours (blocks are rounded up, and larger ones are used again).
#if defined(__SANITIZE_ADDRESS__)
void set_used(Block block, size_t bytes);
#else
inline void set_used(Block, size_t) {}
#endif
void release_kept_blocks();
size_t kept_bytes();

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) { resize(count); }
  Buffer(Buffer&& other) noexcept : block_(std::exchange(other.block_, {})) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Buffer() { return_block(block_); }

  // Room for count elements; the contents are lost where it grows.
  void resize(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes > block_.bytes) {
      return_block(std::exchange(block_, {}));
      block_ = take_block(bytes);
    }
    set_used(block_, bytes);
  }
  T* data() { return static_cast<T*>(block_.data); }
  const T* data() const { return static_cast<const T*>(block_.data); }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }

 private:
  Block block_;
};

}  // namespace deeplab_native
