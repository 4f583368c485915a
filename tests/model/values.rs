//! Shapes and values that do not fit together, whatever the format.

use avatorch::model::Model;

use crate::rig::{Field, Packing, fields, npz, ramp, refusal, with, without};

fn refused(field: Field) -> String {
    refusal(&npz(&with(field), Packing::Stored))
}

#[test]
fn shapes_must_fit_each_other() {
    for (key, shape, expected) in [
        ("v_template", &[3, 4][..], "[any, 3]"),
        ("shapedirs", &[2, 3, 2], "[3, 3, any]"),
        ("posedirs", &[3, 3, 18], "[3, 3, 9]"),
        ("posedirs", &[9, 10], "[9, 9]"),
        ("J_regressor", &[2, 4], "[2, 3]"),
        ("weights", &[2, 3], "[3, 2]"),
        ("f", &[1, 4], "[any, 3]"),
        ("kintree_table", &[3, 2], "[2, any]"),
        ("hands_meanl", &[44], "[45]"),
        ("hands_components", &[45, 44], "[any, 45]"),
    ] {
        let zeros = vec![0.0; shape.iter().product()];
        assert_eq!(
            refused(Field::new(key, "<f4", shape, &zeros)),
            format!("key '{key}' has shape {shape:?}, expected {expected}")
        );
    }
}

#[test]
fn missing_arrays_are_named_beside_what_is_there() {
    for (key, what) in [
        ("v_template", "'v_template'"),
        ("weights", "'weights'"),
        ("f", "'f' or 'faces'"),
        ("kintree_table", "'kintree_table' or 'parents'"),
        ("J_regressor", "'J_regressor', or 'J_template' and 'J_shapedirs'"),
    ] {
        let text = refusal(&npz(&without(key), Packing::Stored));
        assert!(text.starts_with(&format!("has no key {what}; found: ")), "{text}");
        assert!(text.contains("shapedirs"), "{text}");
    }
    let alone = Field::new("vt", "<f4", &[3, 2], &ramp(6));
    assert_eq!(refused(alone), "has key 'vt' without 'ft', expected both or neither");
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for (key, shape, place, position) in [
        ("v_template", &[3, 3][..], 4, "[1, 1]"),
        ("shapedirs", &[3, 3, 2], 17, "[2, 2, 1]"),
        ("weights", &[3, 2], 0, "[0, 0]"),
    ] {
        for (value, name) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let mut values = vec![0.0; shape.iter().product()];
            values[place] = value;
            assert_eq!(
                refused(Field::new(key, "<f8", shape, &values)),
                format!("key '{key}' holds {name} at {position}, expected finite numbers")
            );
        }
    }
    let mut values = vec![0.0; 81];
    values[40] = f64::NAN;
    // The place is that of the model's array, which is transposed.
    assert_eq!(
        refused(Field::new("posedirs", "<f4", &[3, 3, 9], &values)),
        "key 'posedirs' holds NaN at [4, 4], expected finite numbers"
    );
}

#[test]
fn indices_must_be_in_range() {
    assert_eq!(
        refused(Field::new("f", "<i4", &[1, 3], &[0.0, 3.0, 1.0])),
        "key 'f' holds index 3, expected 0 to below 3"
    );
    assert_eq!(
        refused(Field::new("f", "<i4", &[1, 3], &[0.0, -1.0, 1.0])),
        "key 'f' holds index -1, expected 0 to below 3"
    );
}

#[test]
fn joints_must_form_a_tree() {
    // Three joints: a cycle, a forward reference, a joint that is its own parent, a second root.
    let tree = |parents: [f64; 3]| {
        let mut fields = fields();
        fields.retain(|field| matches!(field.key.as_str(), "v_template" | "f"));
        fields.push(Field::new("weights", "<f4", &[3, 3], &[1.0, 0.0, 0.0].repeat(3)));
        fields.push(Field::new("J_regressor", "<f4", &[3, 3], &[0.0; 9]));
        let rows = [parents.to_vec(), vec![0.0, 1.0, 2.0]].concat();
        fields.push(Field::new("kintree_table", "<i8", &[2, 3], &rows));
        npz(&fields, Packing::Stored)
    };
    assert_eq!(
        refusal(&tree([-1.0, 2.0, 1.0])),
        "key 'kintree_table' gives joint 1 the parent 2, expected an earlier joint, 0 to 0"
    );
    assert!(refusal(&tree([-1.0, 0.0, 2.0])).contains("gives joint 2 the parent 2"));
    assert!(refusal(&tree([-1.0, 0.0, -1.0])).contains("gives joint 2 the parent -1"));
    assert!(refusal(&tree([-1.0, 0.0, 4_294_967_295.0])).contains("gives joint 2 the parent 4294967295"));
    // Whatever the root's entry says, it is the root.
    for root in [-1.0, 0.0, 4_294_967_295.0] {
        let model = Model::from_bytes(&tree([root, 0.0, 1.0])).expect("a good file");
        assert_eq!(model.parents.as_slice::<i64>(), Some(&[-1, 0, 1][..]));
    }
}

#[test]
fn odd_weights_are_read_with_a_warning() {
    let weights = Field::new("weights", "<f8", &[3, 2], &[1.0, 0.0, 0.5, 0.25, 1.5, -0.5]);
    let model = Model::from_bytes(&npz(&with(weights), Packing::Stored)).expect("a readable file");
    assert_eq!(
        model.warnings,
        [
            "the skinning weights of 1 vertices do not add up to 1 (the worst: 0.75)",
            "1 vertices have negative skinning weights"
        ]
    );
}
