//! JSON of programs in Go, which write empty lists and maps as `null`.

use serde::{Deserialize, Deserializer};

/// Reads `null` as the empty value.
pub fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
