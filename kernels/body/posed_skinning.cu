// The last phase of a body: v_posed = v_shaped + pose correctives + offsets, and its skinning; and that backwards.
#include "common/influences.cuh"

struct PosedSkinningParams {
  const void* v_shaped;        // [B, V, 3]; backward: grad_vertices
  const void* correctives;     // [B, V, 3] or null, may be v_posed itself; backward: grad_v_posed that arrived, or null
  const void* vertex_offsets;  // [B | 1, V, 3] or null; forward only
  const void* transl;          // [B | 1, 3] or null; forward only
  const void* transforms;      // [B, J, 4, 4]
  const void* weights;         // [V, K]
  const int* joints;           // [V, K], -1: none; or null: K = J
  void* v_posed;               // [B, V, 3]; backward: grad_v_posed
  void* vertices;              // [B, V, 3]; forward only
  long long offset_step;       // elements from one body to the next; 0 where all bodies share
  long long transl_step;
  long long vertex_count;
  long long joint_count;
  long long influences;  // K
};
static_assert(sizeof(PosedSkinningParams) == 14 * 8, "the twin in posed_skinning.rs has the same fields");

// The body and vertex of a thread; false beyond the last vertex.
__device__ __forceinline__ bool locate(const PosedSkinningParams& p, long long& body, long long& vertex) {
  const long long blocks_a_body = (p.vertex_count + blockDim.x - 1) / blockDim.x;
  body = blockIdx.x / blocks_a_body;
  vertex = (blockIdx.x % blocks_a_body) * blockDim.x + threadIdx.x;
  return vertex < p.vertex_count;
}

template <class T>
__global__ void posed_skinning(const PosedSkinningParams p) {
  long long body, vertex;
  if (!locate(p, body, vertex)) return;
  const long long at = (body * p.vertex_count + vertex) * 3;
  T v[3], m[12];
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    v[i] = static_cast<const T*>(p.v_shaped)[at + i];
    if (p.vertex_offsets) v[i] += static_cast<const T*>(p.vertex_offsets)[body * p.offset_step + 3 * vertex + i];
    if (p.correctives) v[i] += static_cast<const T*>(p.correctives)[at + i];
    static_cast<T*>(p.v_posed)[at + i] = v[i];
  }
  blend_transforms(p, static_cast<const T*>(p.transforms) + body * p.joint_count * 16, vertex, m);
#pragma unroll
  for (int row = 0; row < 3; ++row) {
    T out = m[4 * row] * v[0] + m[4 * row + 1] * v[1] + m[4 * row + 2] * v[2] + m[4 * row + 3];
    if (p.transl) out += static_cast<const T*>(p.transl)[body * p.transl_step + row];
    static_cast<T*>(p.vertices)[at + row] = out;
  }
}

// grad_v_posed = what arrived + M^T grad_vertices, with M the blended rotation of the vertex.
template <class T>
__global__ void posed_skinning_backward(const PosedSkinningParams p) {
  long long body, vertex;
  if (!locate(p, body, vertex)) return;
  const long long at = (body * p.vertex_count + vertex) * 3;
  const T* g = static_cast<const T*>(p.v_shaped) + at;
  T m[12];
  blend_transforms(p, static_cast<const T*>(p.transforms) + body * p.joint_count * 16, vertex, m);
#pragma unroll
  for (int column = 0; column < 3; ++column) {
    T out = m[column] * g[0] + m[4 + column] * g[1] + m[8 + column] * g[2];
    if (p.correctives) out += static_cast<const T*>(p.correctives)[at + column];
    static_cast<T*>(p.v_posed)[at + column] = out;
  }
}
