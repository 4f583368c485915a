// Few bodies from the template to vertices: shape blend, pose blend and skinning. A block has some vertices of some
// bodies and reads their directions once; a thread has a coordinate, and of its sums the terms of a group.
#include "common/copy_later.cuh"
#include "common/early.cuh"

constexpr int kVertices = 32, kColumns = 3 * kVertices, kGroups = 4, kThreads = kGroups * kColumns;
// Blocks of a multiprocessor at least: in float32 an H200 has SMPL-X's all at once.
#if __CUDA_ARCH__ >= 1000
template <class T>
constexpr int kBlocks = 2;
#else
template <class T>
constexpr int kBlocks = sizeof(T) == 4 ? 3 : 2;
#endif
constexpr int kAtOnce = 4;  // influences of a vertex that are read at once

struct FewSkinningParams {
  const void* v_template;      // [V, 3] or [B, V, 3]
  const void* shapedirs;       // [V, 3, C]
  const void* shape;           // [B | 1, C]
  const void* posedirs;        // [F, V, 3]
  const void* features;        // [B, F]
  const void* vertex_offsets;  // [B | 1, V, 3] or null
  const void* transl;          // [B | 1, 3] or null
  const void* transforms;      // [B, J, 4, 4]
  const void* weights;         // [V, K]
  const int* joints;           // [V, K], -1: none; or null: K = J
  void* v_shaped;              // [B, V, 3] or null
  void* v_posed;               // [B, V, 3] or null
  void* vertices;              // [B, V, 3]
  long long template_step;     // elements from one body to the next; 0 where all bodies share
  long long shape_step;
  long long offset_step;
  long long transl_step;
  long long bodies;
  long long vertex_count;
  long long joint_count;
  long long influences;     // K
  long long shape_count;    // C
  long long feature_count;  // F, 0 without pose correctives
  long long staged;         // elements of shared memory in front of the directions that are read ahead
  long long ahead;          // of how many features; a multiple of kGroups, or F
};
static_assert(sizeof(FewSkinningParams) == 25 * 8, "the twin in few_skinning.rs has the same fields");

// A coefficient of all bodies, in shared memory.
template <class T, int Bodies>
struct alignas(Bodies == 1 ? sizeof(T) : 16) Row {
  T of[Bodies];
};

// From coefficients [bodies, count] to rows [count]; those of bodies that are none are zero.
template <class T, int Bodies>
__device__ __forceinline__ void to_rows(const T* coefficients, long long step, int count, int bodies,
                                        Row<T, Bodies>* rows) {
#pragma unroll 4
  for (int i = threadIdx.x; i < Bodies * count; i += kThreads) {
    const int body = i / count, place = i % count;
    rows[place].of[body] = body < bodies ? coefficients[body * step + place] : T(0);
  }
}

// Adds a direction, as far as each body goes along it.
template <class T, int Bodies>
__device__ __forceinline__ void add(T (&sum)[Bodies], T direction, const Row<T, Bodies>& row) {
#pragma unroll
  for (int body = 0; body < Bodies; ++body) sum[body] += direction * row.of[body];
}

// Asks for a number that is wanted later.
__device__ __forceinline__ void ask_for(const void* number) { asm volatile("prefetch.global.L2 [%0];" ::"l"(number)); }

// Adds a column's sums over the groups, of which each ends with the total of a body: group g with that of body g.
template <class T, int Bodies>
__device__ __forceinline__ T add_groups(const T (&sum)[Bodies], T* staged, int group, int column) {
  static_assert(Bodies <= kGroups, "each has a group");
  __syncthreads();
#pragma unroll
  for (int body = 0; body < Bodies; ++body) staged[(group * Bodies + body) * kColumns + column] = sum[body];
  __syncthreads();
  T total = T(0);
#pragma unroll
  for (int other = 0; other < kGroups; ++other)
    if (group < Bodies) total += staged[(other * Bodies + group) * kColumns + column];
  return total;
}

template <class T, int Bodies>
__global__ void __launch_bounds__(kThreads, kBlocks<T>) few_skinning(const FewSkinningParams p) {
  extern __shared__ uint4 shared[];
  auto* rows = reinterpret_cast<Row<T, Bodies>*>(shared);
  T* staged = reinterpret_cast<T*>(shared);  // [kGroups, Bodies, kColumns], where the rows are, at another time
  const int column = threadIdx.x % kColumns, group = threadIdx.x / kColumns, axis = column % 3;
  // Blocks of the same vertices are neighbours, so that most find the directions in the cache.
  const int parts = int((p.bodies + Bodies - 1) / Bodies);
  const long long first_body = blockIdx.x % parts * Bodies;
  const int bodies = min(Bodies, int(p.bodies - first_body)), coordinates = 3 * int(p.vertex_count);
  const int features = int(p.feature_count), shapes = int(p.shape_count), first = int(blockIdx.x / parts) * kColumns;
  const bool is_inside = first + column < coordinates;
  const int at = is_inside ? first + column : coordinates - 3 + axis, vertex = at / 3;

  // What `pose` has no part in, while it runs: the first directions, the influences, the shape.
  const T* directions = static_cast<const T*>(p.posedirs) + at;
  const int ahead = int(p.ahead);
  T* came = staged + p.staged + column;  // [ahead, kColumns], a thread's own column
  for (int i = group; i < ahead; i += kGroups) copy_later(came + i * kColumns, directions + (long long)i * coordinates);
  const T* weights = static_cast<const T*>(p.weights) + vertex * p.influences;
  const int* joints = p.joints ? p.joints + vertex * p.influences : nullptr;
  if (p.influences > 0) ask_for(weights);
  if (p.influences > 0 && joints) ask_for(joints);
  T sum[Bodies] = {};
  to_rows(static_cast<const T*>(p.shape) + first_body * p.shape_step, p.shape_step, shapes, bodies, rows);
  __syncthreads();
  const T* shapedirs = static_cast<const T*>(p.shapedirs) + (long long)at * shapes;
#pragma unroll 5
  for (int i = group; i < shapes; i += kGroups) add(sum, __ldg(shapedirs + i), rows[i]);
  T shaped = add_groups(sum, staged, group, column);

  wait_for_former();
  __syncthreads();
  to_rows(static_cast<const T*>(p.features) + first_body * features, features, features, bodies, rows);
#pragma unroll
  for (int body = 0; body < Bodies; ++body) sum[body] = T(0);
  __syncthreads();
  constexpr int kUnroll = Bodies == 1 ? 16 : 8;  // directions under way
#pragma unroll kUnroll
  for (int i = ahead + group; i < features; i += kGroups)
    add(sum, __ldg(directions + (long long)i * coordinates), rows[i]);
  copied();
#pragma unroll 4
  for (int i = group; i < ahead; i += kGroups) add(sum, came[i * kColumns], rows[i]);
  T weight[kAtOnce];
  int joint[kAtOnce];
#pragma unroll
  for (int k = 0; k < kAtOnce; ++k) {
    const bool is_there = k < p.influences;
    weight[k] = is_there ? weights[k] : T(0);
    joint[k] = !is_there ? -1 : joints ? joints[k] : k;
  }
  T posed = add_groups(sum, staged, group, column);

  // A group has a body from here on.
  const bool is_own = group < bodies && is_inside;
  const long long body = first_body + group, out = body * coordinates + at;
  if (is_own) {
    shaped += static_cast<const T*>(p.v_template)[body * p.template_step + at];
    const T offset = p.vertex_offsets ? static_cast<const T*>(p.vertex_offsets)[body * p.offset_step + at] : T(0);
    posed += shaped + offset;
    if (p.v_shaped) static_cast<T*>(p.v_shaped)[out] = shaped;
    if (p.v_posed) static_cast<T*>(p.v_posed)[out] = posed;
    staged[group * kColumns + column] = posed;  // where nobody else reads its sums
  }
  __syncthreads();
  if (!is_own) return;
  const T* transforms = static_cast<const T*>(p.transforms) + body * p.joint_count * 16 + 4 * axis;
  T m[4] = {};  // a row of the blended transform
  const auto blend = [&](T part, int of) {
    if (of < 0 || of >= p.joint_count) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) m[i] += part * transforms[16 * of + i];
  };
#pragma unroll
  for (int k = 0; k < kAtOnce; ++k) blend(weight[k], joint[k]);
#pragma unroll 1
  for (int k = kAtOnce; k < p.influences; ++k) blend(weights[k], joints ? joints[k] : k);
  const T* v = staged + group * kColumns + column - axis;
  T moved = m[0] * v[0] + m[1] * v[1] + m[2] * v[2] + m[3];
  if (p.transl) moved += static_cast<const T*>(p.transl)[body * p.transl_step + axis];
  static_cast<T*>(p.vertices)[out] = moved;
}
