// Sums over the blocks that shared the vertices of a slab. float32 only.
#include "common/parts.cuh"

struct Parts {
  const float* numbers;  // [count, size]
  float* out;            // [size]
  long long count;
  long long size;
};
struct SlabSumsParams {
  Parts transforms, translations, shapes;  // whose size may be zero
};
static_assert(sizeof(SlabSumsParams) == 3 * 4 * 8, "the twin in slab/backward.rs has the same fields");

__global__ void __launch_bounds__(kPartThreads) slab_sums(const SlabSumsParams p) {
  long long block = blockIdx.x;
  Parts own = p.transforms;
  const auto pass_over = [&](const Parts& next) {
    const int columns = PartShape(int(own.count)).columns;
    const long long blocks = (own.size + columns - 1) / columns;
    if (block < blocks) return false;
    block -= blocks;
    own = next;
    return true;
  };
  if (pass_over(p.translations)) pass_over(p.shapes);
  const PartShape shape(int(own.count));
  const long long place = block * shape.columns + int(threadIdx.x) % shape.columns;
  const int count = place < own.size ? int(own.count) : 0;
  const float sum = sum_of_parts(shape, count, [&](int part) { return own.numbers[part * own.size + place]; });
  if (threadIdx.x < shape.columns && place < own.size) own.out[place] = sum;
}
