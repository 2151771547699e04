// Building the lattice of features of more than kPackedDim dimensions.
#pragma once
#include "cpu/lattice_keys.h"

namespace deeplab_native {

// The lattice has its sizes, its blocks, and memory for entries, weights and fresh.
void build_wide_lattice(const FeatureSource& features, const KeyLayout& layout, Lattice* lattice);

}  // namespace deeplab_native
