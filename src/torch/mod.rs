//! The Rust side of the border with torch. `border.h`, `node.h` and one `.cpp` file an operator are the other side.

mod arguments;
pub(crate) mod border;
mod half_products;
pub mod operators;
pub(crate) mod parallel;
mod tensor;

pub(crate) use arguments::{Argument, Arguments};
pub(crate) use border::{Outputs, entry};
pub(crate) use half_products::with_float_sums;
pub(crate) use tensor::{Memory, Sizes, empty, empty_one};
