// What `slab_skinning` and `group_skinning` are given.
#pragma once

struct SlabSkinningParams {
  const float* correctives;     // [3 V.., W], a column for each body of this launch, in units below; or null
  const float* direction_unit;  // [1]
  const float* feature_unit;    // [B]
  const float* v_template;      // [V, 3]
  const float* shapedirs;       // [V, 3, C]
  const float* shape;           // [B | 1, C]
  const float* vertex_offsets;  // [B | 1, V, 3] or null
  const float* transl;          // [B | 1, 3] or null
  const float* transforms;      // [B, J, 4, 4]
  const float* weights;         // [V, K]
  const int* joints;            // [V, K], -1: none
  float* vertices;              // [B, V, 3]
  float* v_posed;               // [B, V, 3] or null
  float* v_shaped;              // [B, V, 3] or null
  long long shape_step;         // elements from one body to the next; 0 where all bodies share
  long long offset_step;
  long long transl_step;
  long long first_body;  // of this launch
  long long bodies;      // of this launch
  long long width;       // W
  long long vertex_count;
  long long joint_count;
  long long influences;   // K
  long long shape_count;  // C
  long long splits;       // blocks that share the vertices of a slab
};
static_assert(sizeof(SlabSkinningParams) == 25 * 8, "the twin in slab/forward.rs has the same fields");
