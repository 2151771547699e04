// Lattices of pixels' positions, which depend on the size of the image and the sigmas alone, kept
// for the next image.
#pragma once
#include <functional>
#include <memory>

#include "ops/pairwise_features.h"
#include "ops/permutohedral.h"

namespace deeplab_native {

// The kept lattice, or build()'s with its mass, which is then kept. The ones used last stay: as
// many as the environment's DEEPLAB_NATIVE_KEPT_LATTICES says (8 without it, 0: none), and an
// eighth of most_kept_bytes() at most.
std::shared_ptr<const Lattice> kept_lattice(const Image& image, int num_threads,
                                            const std::function<std::shared_ptr<Lattice>()>& build);

}  // namespace deeplab_native
