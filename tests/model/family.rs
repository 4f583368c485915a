//! Families are recognised from their joints and columns, and generic rigs are read as they are.

use avatorch::model::{Array, DType, Family, Joints, Model};

use crate::rig::{Field, Packing, npz};

/// A body of 3 vertices with the joints of a family and as many shape columns as given.
fn body(family: Family, columns: usize) -> Vec<Field> {
    let parents = family.parents();
    let joints = parents.len();
    let tree: Vec<f64> = parents.iter().map(|&parent| parent as f64).chain((0..joints).map(|id| id as f64)).collect();
    let zeros = |count| vec![0.0; count];
    let mut weights = zeros(3 * joints);
    (0..3).for_each(|vertex| weights[vertex * joints] = 1.0);
    let shape_values: Vec<f64> = (0..9 * columns).map(|place| (place % columns) as f64).collect();
    vec![
        Field::new("v_template", "<f4", &[3, 3], &zeros(9)),
        Field::new("shapedirs", "<f4", &[3, 3, columns], &shape_values),
        Field::new("posedirs", "<f4", &[3, 3, 9 * (joints - 1)], &zeros(81 * (joints - 1))),
        Field::new("J_regressor", "<f4", &[joints, 3], &zeros(3 * joints)),
        Field::new("weights", "<f4", &[3, joints], &weights),
        Field::new("kintree_table", "<i8", &[2, joints], &tree),
        Field::new("f", "<u4", &[1, 3], &[0.0, 1.0, 2.0]),
    ]
}

fn open(fields: &[Field]) -> Model {
    Model::from_bytes(&npz(fields, Packing::Deflated)).expect("a good file")
}

#[test]
fn every_family_is_recognised() {
    for (family, columns, betas, expressions) in [
        (Family::Smpl, 10, 10, 0),
        (Family::Smpl, 300, 300, 0),
        (Family::SmplH, 16, 16, 0),
        (Family::SmplX, 400, 300, 100),
        (Family::SmplX, 20, 10, 10),
        (Family::Mano, 10, 10, 0),
        (Family::Flame, 400, 300, 100),
    ] {
        let model = open(&body(family, columns));
        assert_eq!((model.family, model.num_betas, model.num_expressions), (family, betas, expressions));
        assert_eq!(model.parents.as_slice::<i64>(), Some(&family.parents()[..]));
        assert_eq!(model.warnings, Vec::<String>::new());
    }
}

#[test]
fn columns_no_family_uses_are_dropped_with_a_warning() {
    let model = open(&body(Family::SmplX, 25));
    assert_eq!((model.num_betas, model.num_expressions), (10, 10));
    assert_eq!(model.shapedirs.shape(), [3, 3, 20]);
    let columns: Vec<f64> = (0..20).map(f64::from).collect();
    assert_eq!(model.shapedirs.to_f64(), columns.repeat(9));
    assert_eq!(model.warnings, ["'shapedirs' has 25 columns, of which smplx uses the first 20"]);
}

#[test]
fn flattened_directions_are_shaped() {
    let mut fields = body(Family::Mano, 10);
    for field in &mut fields {
        if field.key.ends_with("dirs") {
            field.shape = vec![field.shape.iter().product()];
        }
    }
    let model = open(&fields);
    assert_eq!((model.family, model.shapedirs.shape()), (Family::Mano, &[3, 3, 10][..]));
    assert_eq!(model.posedirs.expect("posedirs").shape(), [135, 9]);
}

#[test]
fn hands_and_landmarks_are_kept() {
    let mut fields = body(Family::SmplX, 20);
    for key in ["hands_componentsl", "hands_componentsr"] {
        fields.push(Field::new(key, "<f8", &[2, 45], &[0.5; 90]));
    }
    fields.push(Field::new("hands_meanl", "<f8", &[45], &[0.25; 45]));
    fields.push(Field::new("lmk_faces_idx", "<i8", &[2], &[0.0, 0.0]));
    fields.push(Field::new("lmk_bary_coords", "<f8", &[2, 3], &[0.25; 6]));
    fields.push(Field::new("dynamic_lmk_faces_idx", "<i8", &[79, 1], &[0.0; 79]));
    fields.push(Field::new("dynamic_lmk_bary_coords", "<f8", &[79, 1, 3], &[0.25; 237]));
    fields.push(Field::new("vt", "<f4", &[4, 2], &[0.0; 8]));
    fields.push(Field::new("ft", "<u4", &[1, 3], &[0.0, 3.0, 1.0]));
    let model = open(&fields);
    assert_eq!(model.hands.hands_componentsr.as_ref().map(Array::dtype), Some(DType::F64));
    assert_eq!(model.hands.hands_meanl.as_ref().map(Array::to_f64), Some(vec![0.25; 45]));
    assert!(model.hands.hands_meanr.is_none() && model.hands.hands_components.is_none());
    let landmarks = model.landmarks.expect("landmarks");
    assert_eq!(landmarks.lmk_bary_coords.shape(), [2, 3]);
    assert_eq!(landmarks.contour.expect("the contour").dynamic_lmk_faces_idx.shape(), [79, 1]);
    assert_eq!(model.uv.expect("texture coordinates").ft.as_slice::<i64>(), Some(&[0, 3, 1][..]));
}

#[test]
fn a_rig_with_joint_directions_is_generic() {
    let mut fields = body(Family::Flame, 5);
    fields.retain(|field| field.key != "J_regressor" && field.key != "posedirs");
    fields.push(Field::new("J_template", "<f4", &[5, 3], &[1.0; 15]));
    fields.push(Field::new("J_shapedirs", "<f4", &[5, 3, 5], &[2.0; 75]));
    let model = open(&fields);
    assert_eq!((model.family, model.num_betas, model.num_expressions), (Family::Generic, 5, 0));
    assert!(model.posedirs.is_none());
    match model.joints {
        Joints::Directions { j_template, j_shapedirs } => {
            assert_eq!((j_template.shape(), j_shapedirs.shape()), (&[5, 3][..], &[5, 3, 5][..]));
        }
        Joints::Regressor { .. } => panic!("the rig has no regressor"),
    }
}

#[test]
fn the_smallest_rig_is_one_vertex_on_one_joint() {
    let fields = [
        Field::new("v_template", "<f8", &[1, 3], &[1.0, 2.0, 3.0]),
        Field::new("J_template", "<f8", &[1, 3], &[0.0; 3]),
        Field::new("parents", "<i4", &[1], &[0.0]),
        Field::new("lbs_weights", "<f8", &[1, 1], &[1.0]),
        Field::new("faces", "<i4", &[0, 3], &[]),
    ];
    let model = open(&fields);
    assert_eq!((model.shapedirs.shape(), model.num_betas), (&[1, 3, 0][..], 0));
    assert_eq!(model.float_dtype(), Some(DType::F64));
    assert_eq!(model.parents.as_slice::<i64>(), Some(&[-1][..]));
}
