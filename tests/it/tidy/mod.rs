//! House rules that a compiler does not know, as tests over the project's own files. A rule that gets in the way is
//! changed here, with its reason, and not walked around.

pub mod files;

mod architecture;
mod direction;
mod requirements;
mod source;
mod tree;
