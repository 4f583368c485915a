// From pose and shape coefficients to the posed skeleton of a body, and back; a block for each body. Phases: rotations,
// rest joints, chain; backwards: chain, rotations.
#include "common/chain.cuh"
#include "common/early.cuh"
#include "common/half_pair.cuh"
#include "common/rotation.cuh"

struct PoseParams {
  const void* pose;           // [B | 1, J, 3], or [B | 1, J, 3, 3]
  const void* shape;          // [B | 1, C]
  const void* joint_base;     // [J, 3] or [B, J, 3], rest joints before the directions below
  const void* joint_dirs;     // [J, 3, C] or null
  const void* joint_offsets;  // [B | 1, J, 3] or null
  const void* transl;         // [B | 1, 3] or null
  const long long* parents;   // [J], -1 for a root
  void* rot_mats;             // [B, J, 3, 3]
  void* joints;               // [B, J, 3], rest joints
  void* features;             // [B, J - 1, 3, 3], rotation minus identity, or null
  unsigned short* halves;     // [B.., products, F'], the features in units below as halves, or null. Whole slabs of 32
                              // bodies, zero where there is none
  float* feature_unit;        // [B], with the above
  void* posed;                // [B, J, 3]
  void* transforms;           // [B, J, 4, 4]
  long long pose_step;        // elements from one body to the next; 0 where all bodies share
  long long shape_step;
  long long base_step;
  long long offset_step;
  long long transl_step;
  long long joint_count;
  long long shape_count;  // C
  long long matrices;     // 1 when the pose is given as matrices
  long long products;     // of halves: 3, or 1 of the high ones alone
  long long padded;       // F'
};
static_assert(sizeof(PoseParams) == 24 * 8, "the twin in pose.rs has the same fields");

template <class T>
__device__ void local_rotations(const PoseParams& p, long long body, const ChainMemory<T>& memory) {
  const T* pose = static_cast<const T*>(p.pose) + body * p.pose_step;
  const int joints = int(p.joint_count);
  if (p.matrices) {
    load_rotations(memory, pose, joints);
  } else {
    for (int j = threadIdx.x; j < joints; j += blockDim.x) rodrigues_matrix(pose + 3 * j, memory.local[j].r);
  }
}

// Rotation minus identity, for an entry of the rotations [J, 3, 3].
template <class T>
__device__ __forceinline__ T feature_of(int i, T rotation) {
  return rotation - (i % 9 % 4 == 0 ? T(1) : T(0));
}

template <class T>
__device__ void store_rotations(const PoseParams& p, long long body, const ChainMemory<T>& memory) {
  const int joints = int(p.joint_count);
  T* rot_mats = static_cast<T*>(p.rot_mats) + body * 9 * joints;
  T* features = p.features ? static_cast<T*>(p.features) + body * 9 * (joints - 1) : nullptr;
  each_entry(memory, joints, [&](int i, T rotation) {
    rot_mats[i] = rotation;
    if (features && i >= 9) features[i - 9] = feature_of(i, rotation);
  });
}

// The features of a body as pairs of halves: low, high, high, in the order in which they meet the model's, which are
// high, low, high; or the high ones alone.
template <class T>
__device__ void features_in_halves(const PoseParams& p, long long body, const ChainMemory<T>& memory) {
  __shared__ float largest_of[8];  // warps: a block of this kernel has at most 256 threads
  const int count = 9 * int(p.joint_count - 1);
  float largest = 0.f;
  each_entry(memory, int(p.joint_count), [&](int i, T rotation) {
    if (i >= 9) largest = fmaxf(largest, fabsf(float(feature_of(i, rotation))));
  });
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_down_sync(0xffffffffu, largest, offset));
  if (threadIdx.x % 32 == 0) largest_of[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int warp = 0; warp < int(blockDim.x / 32); ++warp) largest = fmaxf(largest, largest_of[warp]);
  const float scale = scale_for(largest);
  const long long of_body = p.products * p.padded;
  unsigned short* halves = p.halves + body * of_body;
  for (int i = threadIdx.x; i < p.padded; i += blockDim.x) {
    const int entry = i + 9;
    const HalfPair pair =
        i < count ? split(scale * float(feature_of(entry, memory.local[entry / 9].r[entry % 9]))) : HalfPair{0, 0};
    halves[i] = p.products == 1 ? pair.high : pair.low;
    if (p.products == 3) halves[p.padded + i] = halves[2 * p.padded + i] = pair.high;
  }
  if (threadIdx.x == 0) p.feature_unit[body] = one_over(scale);
  // The product has columns for these too, and they must be numbers.
  const long long bodies = gridDim.x, rows = (bodies + 31) / 32 * 32;
  for (long long row = bodies + body; row < rows; row += bodies) {
    for (int i = threadIdx.x; i < of_body; i += blockDim.x) p.halves[row * of_body + i] = 0;
  }
}

template <class T>
__device__ void rest_joints(const PoseParams& p, long long body, T* joints) {
  const T* base = static_cast<const T*>(p.joint_base) + body * p.base_step;
  const T* shape = static_cast<const T*>(p.shape) + body * p.shape_step;
  const T* dirs = static_cast<const T*>(p.joint_dirs);
  const T* offsets = p.joint_offsets ? static_cast<const T*>(p.joint_offsets) + body * p.offset_step : nullptr;
  for (int i = threadIdx.x; i < 3 * p.joint_count; i += blockDim.x) {
    T sum = base[i];
    if (dirs) {
      for (int c = 0; c < p.shape_count; ++c) sum += __ldg(dirs + i * p.shape_count + c) * shape[c];
    }
    joints[i] = offsets ? sum + offsets[i] : sum;
  }
}

template <class T>
__global__ void pose(const PoseParams p) {
  extern __shared__ double shared[];
  let_next_begin();
  const long long body = blockIdx.x;
  const int count = int(p.joint_count);
  ChainMemory<T> memory(shared, count);
  T* joints = static_cast<T*>(p.joints) + body * 3 * count;
  local_rotations(p, body, memory);
  rest_joints(p, body, joints);
  __syncthreads();
  store_rotations(p, body, memory);
  if (p.halves) features_in_halves(p, body, memory);
  chain_forward(memory, joints, p.parents, count);
  const T* transl = p.transl ? static_cast<const T*>(p.transl) + body * p.transl_step : nullptr;
  chain_results(memory, joints, transl, static_cast<T*>(p.posed) + body * 3 * count,
                static_cast<T*>(p.transforms) + body * 16 * count, count);
}

struct PoseBackwardParams {
  const void* pose;             // [B | 1, J, 3], or null when matrices were given
  const void* rot_mats;         // [B, J, 3, 3]
  const void* joints;           // [B, J, 3]
  const long long* parents;     // [J]
  const void* grad_posed;       // [B, J, 3] or null
  const void* grad_transforms;  // [B, J, 4, 4] or null
  const void* grad_features;    // [B, J - 1, 3, 3] or null
  const void* arrived_rot;      // [B, J, 3, 3], what arrived at rot_mats itself, or null
  const void* arrived_joints;   // [B, J, 3], what arrived at the rest joints themselves, or null
  void* grad_rot;               // [B, J, 3, 3]
  void* grad_joints;            // [B, J, 3]
  void* grad_pose;              // [B, J, 3], or null when matrices were given
  const void* shape_partial;    // [B, C], the gradient of the coefficients through the vertices, or null
  const void* joint_dirs;       // [J, 3, C], with the below
  void* grad_shape;             // [B, C], that with what comes through the rest joints, or null
  long long pose_step;
  long long joint_count;
  long long shape_count;  // C
};
static_assert(sizeof(PoseBackwardParams) == 18 * 8, "the twin in pose.rs has the same fields");

// What reaches the coefficients of a body, whose rest joints' gradient lies in `other`: 32 of them to a warp, the
// joints shared by the warps, four at a time, so that their directions are on the way together.
template <class T>
__device__ void gradient_of_shape(const PoseBackwardParams& p, long long body, const ChainMemory<T>& memory) {
  __shared__ T of_warp[8][32];  // a block of this kernel has at most 256 threads
  constexpr int kAtOnce = 4;
  const int count = int(p.shape_count), joints = int(p.joint_count);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int first = 0; first < count; first += 32) {
    const T* dirs = static_cast<const T*>(p.joint_dirs) + min(first + lane, count - 1);
    T sum = 0;
    for (int j = warp; j < joints; j += kAtOnce * warps) {
      T direction[kAtOnce][3];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < 3; ++i) direction[k][i] = __ldg(dirs + (3 * min(j + k * warps, joints - 1) + i) * count);
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (j + k * warps >= joints) break;
        const T* g = memory.other[j + k * warps].t;
        sum += g[0] * direction[k][0] + g[1] * direction[k][1] + g[2] * direction[k][2];
      }
    }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && first + lane < count) {
      for (int other = 1; other < warps; ++other) sum += of_warp[other][lane];
      const long long place = body * count + first + lane;
      const T* partial = static_cast<const T*>(p.shape_partial);
      static_cast<T*>(p.grad_shape)[place] = partial ? partial[place] + sum : sum;
    }
    __syncthreads();
  }
}

template <class T>
__global__ void pose_backward(const PoseBackwardParams p) {
  extern __shared__ double shared[];
  const long long body = blockIdx.x;
  const int count = int(p.joint_count);
  ChainMemory<T> memory(shared, count);
  const auto row = [&](const void* base, int size) {
    return base ? static_cast<const T*>(base) + body * size : nullptr;
  };
  const T* joints = row(p.joints, 3 * count);
  T* grad_rot = static_cast<T*>(p.grad_rot) + body * 9 * count;
  T* grad_joints = static_cast<T*>(p.grad_joints) + body * 3 * count;
  load_rotations(memory, row(p.rot_mats, 9 * count), count);
  chain_forward(memory, joints, p.parents, count);
  chain_backward(memory, joints, row(p.grad_posed, 3 * count), row(p.grad_transforms, 16 * count), grad_joints, count);
  const T *features = row(p.grad_features, 9 * (count - 1)), *arrived_rot = row(p.arrived_rot, 9 * count);
  const T* arrived_joints = row(p.arrived_joints, 3 * count);
  __syncthreads();
  each_entry(memory, count, [&](int i, T& gradient) {
    if (features && i >= 9) gradient += features[i - 9];
    if (arrived_rot) gradient += arrived_rot[i];
    grad_rot[i] = gradient;
  });
  __syncthreads();
  // Each thread finishes the joints whose positions it wrote above: the same loop.
  for (int j = threadIdx.x; j < count; j += blockDim.x) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      T& own = grad_joints[3 * j + i];
      if (arrived_joints) own += arrived_joints[3 * j + i];
      memory.other[j].t[i] = own;
    }
    if (p.grad_pose) {
      rodrigues_gradient(memory.local[j].r, static_cast<const T*>(p.pose) + body * p.pose_step + 3 * j,
                         static_cast<T*>(p.grad_pose) + (body * count + j) * 3);
    }
  }
  if (!p.grad_shape) return;
  __syncthreads();
  gradient_of_shape(p, body, memory);
}
