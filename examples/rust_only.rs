//! The operators from a Rust program: through torch's dispatcher, so gradients flow as they do in Python.
//! Run with `cargo run --release --example rust_only`, with the Python that has torch first on PATH.

use avatorch::operators::rodrigues;
use tch::{Kind, Tensor};

fn main() -> anyhow::Result<()> {
    let rotvec = Tensor::from_slice(&[0.1f64, -0.2, 0.3, 0.0, 0.0, 0.0]).reshape([2, 3]).set_requires_grad(true);
    let rotation = rodrigues(&rotvec)?;
    rotation.sum(Kind::Double).backward();
    println!("rotations {:?}, gradient\n{}", rotation.size(), rotvec.grad().to_string(80)?);
    let refused = rodrigues(&Tensor::zeros([2, 4], (Kind::Float, tch::Device::Cpu)));
    println!("four numbers are no rotation vector: {}", refused.expect_err("a sentence"));
    Ok(())
}
