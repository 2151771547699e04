"""`segment` and `refine` on more than one machine: Ray Data, extra `ray`.

    from deeplab_native import jobs

    done = jobs.ray.segment("s3://bucket/shards/{000000..000999}.tar", "s3://bucket/masks")

A worker is a process with the net, on a GPU where Ray has some, else on CPU cores. It takes a unit
at a time: a tar shard, a row group of a Parquet file, or some of a folder's pictures; images of a
size go through net and CRF as one batch. What comes out has the labels that `jobs.segment` and
`jobs.refine` give. docs/how_to/many_machines.md has the formats, and what happens on failure.
They have these arguments in common, and of `deeplab_native.jobs` resume, overwrite, progress and
cancel; `progress` counts images of units that are not finished, too:

- `address`: of a cluster, "auto", "ray://HOST:10001"; None: this machine's cores and GPUs. Where
  the process is connected to Ray already, that is used
- `masks`: how they are written: "png", a folder of label PNGs; "tar", shards of them, as WebDataset
  reads; "parquet", their bytes in a column
- `shard_images`: pictures of a folder that are written, and begun again after a failure, as one
- `image_column`, `key_column`, `scores_column`: of Parquet; of tar shards the suffixes of a
  sample's members, as "jpg". None: "image" and "scores", of shards what a member is
- `on_error`: "skip": images and shards that cannot be used are named and counted; "stop": the first
  is an error. What was finished stays in both cases
- `gpus`: of each worker, also 0.5; 0: CPUs. None: 1 where Ray has GPUs
- `workers`: at the same time. None: as many as the cluster has GPUs, or else cores
- `threads`: CPU threads of each. None: the cores, shared among the workers
- `batch`: images of one size at the most that go through net and CRF together. None: 16 on a
  GPU; 1 on CPUs, where more are no faster
- `memory`: bytes for such a batch. None: half of what is free, shared among the workers
"""

from ._public import RayResult, refine, segment

__all__ = ["RayResult", "refine", "segment"]
