//! Converts a body model file to `.safetensors`, which opens without copying.
//!
//! `cargo run --example convert_model --no-default-features -- SMPLX_NEUTRAL.npz SMPLX_NEUTRAL.safetensors`

use avatorch::model::Model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [input, output] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "expected two paths")?;
    let model = Model::load(input)?;
    for warning in &model.warnings {
        eprintln!("warning: {warning}");
    }
    for (name, array) in model.arrays() {
        println!("{name}: {:?} {:?}", array.dtype(), array.shape());
    }
    model.save(output)?;
    Ok(())
}
