//! How answers look: `words` for enums, times and amounts, `text` for foreign texts, `table`, `describe`, `health` and
//! `runtimes`, `cores` and `services` for people, `tree` and `messages` for programs (JSON and YAML).
//!
//! Everything here turns messages into text and does nothing else; printing is `screen`'s.

pub mod cores;
pub mod describe;
pub mod health;
pub mod messages;
pub mod runtimes;
pub mod services;
pub mod table;
pub mod text;
pub mod tree;
pub mod words;
