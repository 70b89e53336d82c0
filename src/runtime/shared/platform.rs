//! What this machine runs, as images say it: operating system, architecture and variant.
//!
//! Source: OCI image specification 1.1, "Image Index", platform variants; the words are those of Go.

use oci_spec::image::{ImageConfiguration, Platform};

/// A machine, in the words of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    architecture: String,
    /// Of Arm alone: what it runs, best first.
    variants: Vec<&'static str>,
}

/// What a machine must run for an image.
#[derive(Debug)]
pub struct Wanted {
    /// Go's word.
    pub os: String,
    /// Go's word.
    pub architecture: String,
    /// `None` and empty: the base.
    pub variant: Option<String>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let name = nix::sys::utsname::uname().map(|uname| uname.machine().to_string_lossy().into_owned());
        Self::of(std::env::consts::ARCH, &name.unwrap_or_default())
    }

    /// `architecture` as Rust names it, `machine` as the kernel does.
    pub fn of(architecture: &str, machine: &str) -> Self {
        let variants: &[&str] = match (architecture, machine) {
            ("aarch64", _) => &["v8"],
            ("arm", "armv6l") => &["v6", "v5"],
            // A 64-bit kernel runs what is built for the last of the 32-bit ones.
            ("arm", _) => &["v7", "v6", "v5"],
            _ => &[],
        };
        let architecture = match architecture {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), variants: variants.to_vec() }
    }

    /// How well something fits that is made for `wanted`: 0 best, `None` not at all.
    pub fn fit(&self, wanted: &Wanted) -> Option<usize> {
        if wanted.os != "linux" || wanted.architecture != self.architecture {
            return None;
        }
        match wanted.variant.as_deref().filter(|variant| !variant.is_empty()) {
            // Unsaid is the base, worse than what is named.
            None => Some(self.variants.len()),
            // Levels of x86-64 beyond the first are not told apart by the kernel's name.
            Some(variant) if self.variants.is_empty() => (variant == "v1").then_some(0),
            Some(variant) => self.variants.iter().position(|known| *known == variant),
        }
    }

    /// For people: `linux/arm64`.
    pub fn name(&self) -> String {
        format!("linux/{}", self.architecture)
    }
}

impl Wanted {
    /// What an index says of one of its images.
    pub fn by(platform: &Platform) -> Self {
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        Self { os, architecture, variant: platform.variant().clone() }
    }

    /// What an image says of itself.
    pub fn by_image(config: &ImageConfiguration) -> Self {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        Self { os, architecture, variant: config.variant().clone() }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(machine: (&str, &str), wanted: &str) -> Option<usize> {
        let mut words = wanted.split('/').map(str::to_owned);
        let mut word = || words.next();
        let (os, architecture) = (word().unwrap(), word().unwrap());
        Machine::of(machine.0, machine.1).fit(&Wanted { os, architecture, variant: word() })
    }

    #[test]
    fn image_fits_the_machine_it_is_made_for_best() {
        let arm64 = ("aarch64", "aarch64");
        assert!(fit(arm64, "linux/arm64/v8") < fit(arm64, "linux/arm64"));
        assert_eq!(fit(arm64, "linux/amd64"), None);
        assert_eq!(fit(arm64, "windows/arm64"), None);
        let arm7 = ("arm", "armv7l");
        assert!(fit(arm7, "linux/arm/v7") < fit(arm7, "linux/arm/v6"));
        assert!(fit(arm7, "linux/arm/v5") < fit(arm7, "linux/arm"));
        assert_eq!(fit(("arm", "armv6l"), "linux/arm/v7"), None);
        let amd64 = ("x86_64", "x86_64");
        assert_eq!(fit(amd64, "linux/amd64"), Some(0));
        assert_eq!(fit(amd64, "linux/amd64/v3"), None);
        assert_eq!(fit(amd64, "unknown/unknown"), None);
    }
}
