// The kinematic chain of one body, by one block, in shared memory. src/body/kinematic_chain.rs is the twin.
//
// Forward, by doubling: a joint holds the product of the transforms from its ancestor (exclusive) to itself; in each
// round it multiplies by what its ancestor holds and takes over that one's ancestor. ceil(log2 J) rounds reach every
// root. Backward, by levels from the leaves: a joint gathers from its children, in their order.
#pragma once

// Nine entries of a rotation (row-major), three of a translation.
template <class T>
struct Rigid {
  T r[9], t[3];
};

// a b, the transform b followed by a.
template <class T>
__device__ __forceinline__ Rigid<T> compose(const Rigid<T>& a, const Rigid<T>& b) {
  Rigid<T> c;
#pragma unroll
  for (int row = 0; row < 3; ++row) {
#pragma unroll
    for (int column = 0; column < 3; ++column) {
      c.r[3 * row + column] =
          a.r[3 * row] * b.r[column] + a.r[3 * row + 1] * b.r[3 + column] + a.r[3 * row + 2] * b.r[6 + column];
    }
    c.t[row] = a.r[3 * row] * b.t[0] + a.r[3 * row + 1] * b.t[1] + a.r[3 * row + 2] * b.t[2] + a.t[row];
  }
  return c;
}

// One of a joint in shared memory: neighbours begin in different banks.
template <class T>
struct Slot : Rigid<T> {
  T apart;
};

// What a block keeps for one body; `launch_shape` in kinematic_chain.rs counts the same.
template <class T>
struct ChainMemory {
  Slot<T>* local;    // [J], rotations, and the way from the parent; then the gradient of the rotations
  Slot<T>* global;   // [J], result of the forward pass
  Slot<T>* other;    // [J], the second buffer of the rounds; then the gradient of `global`
  int* parent;       // [J], -1 for a root
  int* ancestor;     // [J], whose transform `global` is relative to
  int* further;      // [J], that of the next round
  int* depth;        // [J]
  int* first_child;  // [J], -1: none
  int* sibling;      // [J], the next child of the same parent, -1: none

  __device__ __forceinline__ ChainMemory(void* shared, int joints) {
    local = static_cast<Slot<T>*>(shared);
    global = local + joints;
    other = global + joints;
    parent = reinterpret_cast<int*>(other + joints);
    ancestor = parent + joints;
    further = ancestor + joints;
    depth = further + joints;
    first_child = depth + joints;
    sibling = first_child + joints;
  }
};

// Calls `entry(i, of the joint's local rotation)` for all entries of the rotations [J, 3, 3], neighbours in a warp.
template <class T, class Entry>
__device__ __forceinline__ void each_entry(const ChainMemory<T>& m, int joints, const Entry& entry) {
  for (int i = threadIdx.x; i < 9 * joints; i += blockDim.x) entry(i, m.local[i / 9].r[i % 9]);
}

// Rotations [J, 3, 3] to the local ones.
template <class T>
__device__ __forceinline__ void load_rotations(const ChainMemory<T>& m, const T* rotations, int joints) {
  each_entry(m, joints, [&](int i, T& local) { local = rotations[i]; });
}

// Global transforms of the joints from the local rotations and rest positions [J, 3], once all threads are here. A
// parent that is not an earlier joint counts as none: the host refuses such rigs where it can read them without
// waiting.
template <class T>
__device__ void chain_forward(ChainMemory<T>& m, const T* positions, const long long* parents, int joints) {
  __syncthreads();
  for (int j = threadIdx.x; j < joints; j += blockDim.x) {
    const long long found = parents[j];
    const int parent = found >= 0 && found < j ? int(found) : -1;
    m.parent[j] = m.ancestor[j] = parent;
#pragma unroll
    for (int i = 0; i < 3; ++i)
      m.local[j].t[i] = positions[3 * j + i] - (parent >= 0 ? positions[3 * parent + i] : T(0));
    m.global[j] = m.local[j];
  }
  __syncthreads();
  for (int reach = 1; reach < joints; reach *= 2) {
    for (int j = threadIdx.x; j < joints; j += blockDim.x) {
      const int ancestor = m.ancestor[j];
      static_cast<Rigid<T>&>(m.other[j]) = ancestor < 0 ? m.global[j] : compose<T>(m.global[ancestor], m.global[j]);
      m.further[j] = ancestor < 0 ? -1 : m.ancestor[ancestor];
    }
    __syncthreads();
    Slot<T>* swap = m.global;
    m.global = m.other;
    m.other = swap;
    int* swapped = m.ancestor;
    m.ancestor = m.further;
    m.further = swapped;
  }
}

__device__ __forceinline__ void store_row(float* to, float a, float b, float c, float d) {
  *reinterpret_cast<float4*>(to) = make_float4(a, b, c, d);
}
__device__ __forceinline__ void store_row(double* to, double a, double b, double c, double d) {
  reinterpret_cast<double2*>(to)[0] = make_double2(a, b);
  reinterpret_cast<double2*>(to)[1] = make_double2(c, d);
}

// Posed joints [J, 3] (plus a translation, or null) and skinning transforms [J, 4, 4] from the global transforms.
template <class T>
__device__ void chain_results(const ChainMemory<T>& m, const T* positions, const T* translation, T* posed,
                              T* transforms, int joints) {
  for (int j = threadIdx.x; j < joints; j += blockDim.x) {
    const Rigid<T> g = m.global[j];
    const T* x = positions + 3 * j;
    T* a = transforms + 16 * j;
#pragma unroll
    for (int row = 0; row < 3; ++row) {
      const T* r = g.r + 3 * row;
      posed[3 * j + row] = g.t[row] + (translation ? translation[row] : T(0));
      store_row(a + 4 * row, r[0], r[1], r[2], g.t[row] - (r[0] * x[0] + r[1] * x[1] + r[2] * x[2]));
    }
    store_row(a + 12, T(0), T(0), T(0), T(1));
  }
}

// Gradients of the local rotations, in their place, and of the rest positions [J, 3]. `grad_posed` [J, 3] and
// `grad_transforms` [J, 4, 4] may be null. With G, t the global transforms and a = t - G x: docs/gradients.md,
// kinematic_chain.
template <class T>
__device__ void chain_backward(ChainMemory<T>& m, const T* positions, const T* grad_posed, const T* grad_transforms,
                               T* grad_positions, int joints) {
  Slot<T>* grad = m.other;
  for (int j = threadIdx.x; j < joints; j += blockDim.x) {
    const T* x = positions + 3 * j;
    Rigid<T> g{};
    T own[3] = {};
    if (grad_transforms) {
      const T* a = grad_transforms + 16 * j;
#pragma unroll
      for (int row = 0; row < 3; ++row) {
        const T shift = a[4 * row + 3];
        g.t[row] = shift;
#pragma unroll
        for (int column = 0; column < 3; ++column) {
          g.r[3 * row + column] = a[4 * row + column] - shift * x[column];
          own[column] -= m.global[j].r[3 * row + column] * shift;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (grad_posed) g.t[i] += grad_posed[3 * j + i];
      grad_positions[3 * j + i] = own[i];
    }
    static_cast<Rigid<T>&>(grad[j]) = g;
    int depth = 0;
    for (int up = m.parent[j]; up >= 0; up = m.parent[up]) ++depth;
    m.depth[j] = depth;
    int child = -1, sibling = -1;
#pragma unroll 4
    for (int later = joints - 1; later > j; --later) {
      const int parent = m.parent[later];
      if (parent == j) child = later;
      if (parent == m.parent[j]) sibling = later;
    }
    m.first_child[j] = child;
    m.sibling[j] = sibling;
  }
  __syncthreads();
  int deepest = 0;
  for (int j = 0; j < joints; ++j) deepest = max(deepest, m.depth[j]);
  // Whole transforms go through registers: between writes to shared memory every read of it would wait.
  for (int level = deepest - 1; level >= 0; --level) {
    for (int j = threadIdx.x; j < joints; j += blockDim.x) {
      if (m.depth[j] != level) continue;
      Rigid<T> own = grad[j];
      for (int child = m.first_child[j]; child >= 0; child = m.sibling[child]) {
        const Rigid<T> g = grad[child], way = m.local[child];
#pragma unroll
        for (int row = 0; row < 3; ++row) {
          const T* r = g.r + 3 * row;
          own.t[row] += g.t[row];
#pragma unroll
          for (int column = 0; column < 3; ++column) {
            own.r[3 * row + column] += r[0] * way.r[3 * column] + r[1] * way.r[3 * column + 1] +
                                       r[2] * way.r[3 * column + 2] + g.t[row] * way.t[column];
          }
        }
      }
      static_cast<Rigid<T>&>(grad[j]) = own;
    }
    __syncthreads();
  }
  for (int j = threadIdx.x; j < joints; j += blockDim.x) {
    const int parent = m.parent[j];
    const Rigid<T> g = grad[j], own = m.global[j];
    const Rigid<T> up = m.global[max(parent, 0)];
    T of_children[3] = {};
    for (int child = m.first_child[j]; child >= 0; child = m.sibling[child]) {
#pragma unroll
      for (int i = 0; i < 3; ++i) of_children[i] += grad[child].t[i];
    }
#pragma unroll
    for (int row = 0; row < 3; ++row) {
#pragma unroll
      for (int column = 0; column < 3; ++column) {
        const T turned = up.r[row] * g.r[column] + up.r[3 + row] * g.r[3 + column] + up.r[6 + row] * g.r[6 + column];
        m.local[j].r[3 * row + column] = parent < 0 ? g.r[3 * row + column] : turned;
      }
      // The offset from the parent moves with this joint and against the parent.
      const T turned = up.r[row] * g.t[0] + up.r[3 + row] * g.t[1] + up.r[6 + row] * g.t[2];
      const T against = own.r[row] * of_children[0] + own.r[3 + row] * of_children[1] + own.r[6 + row] * of_children[2];
      grad_positions[3 * j + row] += (parent < 0 ? g.t[row] : turned) - against;
    }
  }
}
