"""What building the lattices of the dense CRF moves and computes; csrc/cuda says how it works.

Sizes of arrays in bytes, of all images of a batch; float32. Hash probes beyond the first, and the
keys of neighbours that are found, are left out: the photograph decides their number.
"""

from __future__ import annotations

from dataclasses import dataclass

from _roofline import SECTOR, WARP, Cost, Issue

CHUNK = 2048  # kChunk of counting_sort.cuh
DIGIT_BITS, CODE_BITS = 11, 10  # kMostBits, kCodeBits
SEGMENT = 32  # kSegment of permutohedral_splat.cuh
PACKED_DIM = 16  # kPackedDim of permutohedral.h


@dataclass(frozen=True)
class Lattice:
    """Of `images` images, with `vertices` in all; `replicas` batches of values go over it."""

    points: int
    d: int
    images: int
    vertices: int
    replicas: int = 1

    @property
    def corners(self) -> int:
        return self.d + 1

    @property
    def entries(self) -> int:
        """With those of lanes without a point."""
        return self.images * -(-self.points // WARP) * WARP * self.corners

    @property
    def real(self) -> int:
        return self.images * self.points * self.corners

    @property
    def record_bytes(self) -> int:
        """Of a point: record_words of lattice_keys.cuh."""
        return 8 if self.d <= 2 else -(-self.d // 4) * 16

    @property
    def wide(self) -> bool:
        """Vertices are named by points and compared by hashes: wide_keys.cuh."""
        return self.d > PACKED_DIM

    @property
    def hash_bytes(self) -> int:
        return 8 * self.entries if self.wide else 0

    @property
    def table_bytes(self) -> int:
        of_image = self.entries // self.images
        return 4 * self.images * (of_image + of_image // 2 + 1)

    @property
    def touched(self) -> int:
        """Of the table, by one access for each vertex: a sector each, all of it at most."""
        return min(SECTOR * self.vertices, self.table_bytes)

    @property
    def segments(self) -> int:
        return self.images * -(-self.points * self.corners // SEGMENT)

    @property
    def pieces(self) -> int:
        """Sums that the splat writes: at least one of each vertex and of each segment."""
        return max(self.vertices, self.segments)

    @property
    def chunks(self) -> int:
        return self.images * -(-(self.entries // self.images) // CHUNK)

    def passes(self, numbers: int) -> int:
        """Of a sort by numbers below this."""
        return -(-max(1, (numbers - 1).bit_length()) // DIGIT_BITS)

    @property
    def digit_bits(self) -> int:
        """Of each pass of the sort by vertex, of images with as many vertices each."""
        vertices = self.vertices // self.images
        return -(-max(1, (vertices - 1).bit_length()) // self.passes(vertices))


def build_costs(lat: Lattice, kind: str) -> list[Cost]:
    """features ... rows of one lattice; the image is 3 bytes a pixel, of the bilateral kernel.

    Instructions are looked up of the kernels with a thread for each point or entry.
    """
    e, m, n = 4 * lat.entries, lat.vertices, lat.images * lat.points
    table, d = lat.touched, lat.d
    padded = lat.entries / lat.corners
    records = lat.record_bytes * padded
    image = 3 * n if d > 2 else 0
    neighbour_bytes = 8 * m * lat.corners
    to_records = max(lat.record_bytes, SECTOR) * m
    # of each entry; of entries of a vertex that is known the hash and the record of the one it has
    to_keys, to_moved = lat.record_bytes * lat.entries, to_records
    if lat.wide:
        to_keys = lat.hash_bytes + (SECTOR + 2 * lat.record_bytes) * (lat.entries - m)
        to_moved = SECTOR * m  # the hash of a neighbour follows from the vertex's
    # counts of a digit are a chunk apart where chunks write and read them
    codes, digits = lat.chunks << CODE_BITS, lat.chunks << lat.digit_bits
    made, most = (lat.passes(x // lat.images) for x in (lat.vertices, lat.entries))
    item = 16  # bytes: vertex, point and weight

    def issues(name: str, threads: float, depth: int = 1) -> list[Issue]:
        return [Issue(f"permutohedral_build.cu {name}", threads, depth=depth)]

    name = "pairwise_features.cu pairwise_features_kernel<unsigned char>"
    features = [Issue(name, n, marker="STG.32", of_item=d)]
    return [
        Cost(f"{kind} features", 1, image + 4 * d * n, flops=d * n, new=image, issues=features),
        # the table is cleared, too
        Cost(
            f"{kind} embed",
            1,
            4 * d * n + e + records + lat.hash_bytes + lat.table_bytes,
            flops=(4 * d + 8 * lat.corners) * padded,
            issues=[] if lat.wide else issues(f"embed_kernel<{d}>", padded),
        ),
        # every entry reads the record of its point, and one more where it finds another's key
        Cost(
            f"{kind} insert",
            1,
            records + lat.hash_bytes + table + e,
            asked=to_keys + SECTOR * m + e,
            issues=[] if lat.wide else issues(f"insert_kernel<{d}>", lat.entries),
        ),
        Cost(
            f"{kind} count codes",
            1,
            2 * e + table + to_records + 4 * codes,
            asked=3 * e + to_records + SECTOR * codes,
        ),
        Cost(f"{kind} sum codes", 1, 2 * 4 * codes),
        Cost(
            f"{kind} place codes",
            1,
            e + 4 * codes + SECTOR * m + table + 4 * m + neighbour_bytes,
            asked=e + SECTOR * (codes + 2 * m) + 4 * m + neighbour_bytes,
        ),
        # the vertices of the entries, and beside them a slot of each neighbour, and where it learns
        # of this one
        Cost(
            f"{kind} number",
            1,
            2 * e
            + table
            + 4 * digits
            + 4 * m
            + to_records
            + min(lat.corners * SECTOR * m, lat.table_bytes)
            + neighbour_bytes,
            asked=3 * e
            + SECTOR * digits
            + lat.corners * (4 * m + to_moved + 2 * SECTOR * m)
            + neighbour_bytes,
        ),
        # in each pass items are counted (the first time by number), summed up and put in place:
        # those of a digit in a chunk one after the other, at the least a sector of each array
        Cost(
            f"{kind} sort",
            3 * most - 1,
            2 * e + (3 * item * (made - 1) + 12) * lat.real + made * 3 * 4 * digits,
            asked=2 * e
            + 2 * item * (made - 1) * lat.real
            + (made - 1) * max(item * lat.real, SECTOR * digits)
            + max(4 * lat.real, SECTOR * digits)
            + max(8 * lat.real, SECTOR * digits)
            + made * (2 * SECTOR + 8) * digits,
        ),
        Cost(
            f"{kind} rows",
            1,
            4 * lat.real + 4 * m + 4 * m,
            8 * lat.real + (SECTOR + 4) * m,
            issues=issues("rows_kernel", lat.real, 0),
        ),
    ]


def lattice_bytes(lat: Lattice) -> float:
    """Every array that building touches, once: 52 bytes for each entry, 12 for each vertex."""
    own = (4 * lat.d + lat.record_bytes) * lat.images * lat.points + lat.table_bytes
    return own + lat.hash_bytes + 52 * lat.entries + (12 + 8 * lat.corners) * lat.vertices
