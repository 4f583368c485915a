// What `slab_posed_gradient` and `group_posed_gradient` are given.
#pragma once

struct SlabPosedGradientParams {
  const float* grad_vertices;  // [B, V, 3]
  const float* transforms;     // [B, J, 4, 4]
  const float* weights;        // [V, K]
  const int* joints;           // [V, K], -1: none
  const float* shapedirs;      // [V, 3, C], or null
  const float* largest;        // [parts, B], of the absolute values of grad_vertices
  const float* weight_sum;     // [1], the largest sum of a vertex's absolute weights
  unsigned short* pair;        // [rows, Halves, W]: the gradient of v_posed in units below, high and low
  float* unit;                 // [B]
  float* grad_shape;           // [splits, B, C], or null
  long long parts;
  long long batch;       // B
  long long first_body;  // of this launch
  long long bodies;      // of this launch
  long long width;       // W
  long long rows;        // of the pair, 3 V padded
  long long vertex_count;
  long long joint_count;
  long long influences;   // K
  long long shape_count;  // C
  long long splits;       // blocks that share the vertices of a slab
};
static_assert(sizeof(SlabPosedGradientParams) == 21 * 8, "the twin in slab/backward.rs has the same fields");
