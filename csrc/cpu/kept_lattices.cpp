#include "cpu/kept_lattices.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "common/buffer.h"

namespace deeplab_native {
namespace {

struct PositionKey {
  int num_threads, axes;
  bool bridged;
  std::array<int64_t, 3> size;
  std::array<float, 3> sigmas;
  bool operator==(const PositionKey&) const = default;
};

struct Kept {
  PositionKey key;
  std::shared_ptr<const Lattice> lattice;
  size_t bytes;
};

struct Shelf {
  std::mutex mutex;
  std::list<Kept> kept;  // the one used last is first
  size_t bytes = 0;
};

Shelf& shelf() {
  static Shelf* const s = new Shelf;  // never destroyed: threads may outlive static objects
  return *s;
}

size_t most_lattices() {
  static const size_t most = [] {
    const char* const text = std::getenv("DEEPLAB_NATIVE_KEPT_LATTICES");
    if (!text || !*text) return size_t{8};
    size_t number = 0;
    const char* const end = text + std::strlen(text);
    const auto [rest, error] = std::from_chars(text, end, number);
    if (error != std::errc() || rest != end) {
      throw std::invalid_argument(
          std::string("DEEPLAB_NATIVE_KEPT_LATTICES: expected a number, 0 or more, got '") + text +
          "'");
    }
    return number;
  }();
  return most;
}

size_t bytes_of(const Lattice& lattice) {
  const size_t points = size_t(lattice.blocks.size()) * kBlock;
  size_t bytes = points * (lattice.d + 1) * (sizeof(uint32_t) + sizeof(float)) +
                 points * sizeof(float) + size_t(lattice.blocks.size()) * sizeof(int32_t);
  for (const Lattice::Axis& axis : lattice.axes) bytes += axis.order.capacity() * sizeof(int32_t);
  return bytes;
}

}  // namespace

std::shared_ptr<const Lattice> kept_lattice(
    const Image& image, int num_threads, const std::function<std::shared_ptr<Lattice>()>& build) {
  PositionKey key{num_threads, image.axes, image.bridged, image.size, image.sigmas};
  if (key.axes == 2) key.sigmas[0] = 0;  // of no meaning
  const size_t most = most_lattices();   // throws, so before anything is built
  Shelf& s = shelf();
  {
    // Only tried, here and below: a child forked while another thread held it must not wait.
    const std::unique_lock lock(s.mutex, std::try_to_lock);
    if (lock) {
      for (auto it = s.kept.begin(); it != s.kept.end(); ++it) {
        if (!(it->key == key)) continue;
        s.kept.splice(s.kept.begin(), s.kept, it);
        return it->lattice;
      }
    }
  }
  const std::shared_ptr<Lattice> lattice = build();
  const size_t bytes = bytes_of(*lattice), most_bytes = most_kept_bytes() / 8;
  if (most == 0 || bytes > most_bytes) return lattice;
  lattice->mass.resize(lattice->blocks.size() * kBlock);
  lattice_mass_cpu(*lattice, lattice->mass.data());
  std::list<Kept> dropped;  // freed when the lock is
  {
    const std::unique_lock lock(s.mutex, std::try_to_lock);
    if (!lock) return lattice;
    for (const Kept& other : s.kept) {
      if (other.key == key) return other.lattice;  // by another thread, meanwhile
    }
    s.kept.push_front({key, lattice, bytes});
    s.bytes += bytes;
    while (s.kept.size() > most || s.bytes > most_bytes) {
      s.bytes -= s.kept.back().bytes;
      dropped.splice(dropped.begin(), s.kept, std::prev(s.kept.end()));
    }
  }
  return lattice;
}

void release_kept_lattices() {
  Shelf& s = shelf();
  std::list<Kept> dropped;
  const std::unique_lock lock(s.mutex, std::try_to_lock);
  if (!lock) return;
  dropped.swap(s.kept);
  s.bytes = 0;
}

}  // namespace deeplab_native
