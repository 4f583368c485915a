//! Reading body model files: every format and dtype, and every way a file can be wrong.

mod family;
mod folder;
mod npz;
mod pickle;
mod rig;
mod safetensors;
mod values;
