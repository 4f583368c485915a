//! Model files become a `Model`; readers execute nothing.
