// Uninitialised memory on cache line boundaries, kept when asked for less than it has.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deeplab_native {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) { resize(count); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  // Room for count elements; the contents are lost where it grows. Throws std::bad_alloc.
  void resize(size_t count) {
    if (count <= capacity_) return;
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
    const size_t page = count * sizeof(T) >= kHuge ? kHuge : 64;
    const size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    data_ = static_cast<T*>(std::aligned_alloc(page, bytes));
    if (!data_) throw std::bad_alloc();
    capacity_ = bytes / sizeof(T);
#if defined(__linux__)
    // Rows are visited in the order of the image's colours: without huge pages every visit misses
    // the TLB as well.
    if (page == kHuge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t capacity() const { return capacity_; }

 private:
  static constexpr size_t kHuge = size_t{2} << 20;
  T* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace deeplab_native
