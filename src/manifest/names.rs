//! What names, references and paths may look like. Each check says why not, without saying where.

use crate::model::text::shown;

/// The longest name of a workload or container.
pub(super) const MAX_NAME: usize = 63;

/// The result of a check.
pub(super) type Checked = Result<(), String>;

/// A DNS label (RFC 1123): lower case, digits and `-`, at most 63 characters.
pub(super) fn label(name: &str) -> Checked {
    if name.len() > MAX_NAME {
        return Err(format!("'{}' has {} characters, at most {MAX_NAME} are possible", shown(name), name.len()));
    }
    if is_label(name) {
        return Ok(());
    }
    Err(format!("'{}' must consist of a-z, 0-9 and '-' and begin and end with a letter or digit", shown(name)))
}

/// A DNS subdomain (labels with `.` between), at most 63 characters.
pub(super) fn subdomain(name: &str) -> Checked {
    if name.len() <= MAX_NAME && name.split('.').all(is_label) {
        return Ok(());
    }
    label(name).and(Ok(())).map_err(|why| why.replace("and '-'", "'-' and '.'"))
}

fn is_label(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(is_inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// The name of a document, network or volume: letters of either case, digits, `.`, `_` and `-`, at most 128.
pub(super) fn object(name: &str) -> Checked {
    const LONGEST: usize = 128;
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if begins && name.len() <= LONGEST && name.bytes().all(is_inner) {
        return Ok(());
    }
    let rule = "letters, digits, '.', '_' and '-', begin with a letter or digit";
    Err(format!("'{}' must consist of {rule} and have 1 to {LONGEST} characters", shown(name)))
}

/// The name of an environment variable: printable ASCII without `=`.
pub(super) fn variable(name: &str) -> Checked {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=') {
        return Ok(());
    }
    Err(format!("'{}' is no name of a variable: printable ASCII without '='", shown(name)))
}

/// An absolute path without `..`.
pub(super) fn absolute_path(path: &str) -> Checked {
    if !path.starts_with('/') {
        return Err(format!("'{}' must be an absolute path", shown(path)));
    }
    no_parent(path)
}

/// A relative path without `..`.
pub(super) fn relative_path(path: &str) -> Checked {
    if path.starts_with('/') {
        return Err(format!("'{}' must be a relative path", shown(path)));
    }
    no_parent(path)
}

fn no_parent(path: &str) -> Checked {
    const LONGEST: usize = 4095;
    if path.len() > LONGEST || path.chars().any(char::is_control) {
        return Err(format!("'{}' is too long for a path or holds control characters", shown(path)));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("'{}' must not hold '..'", shown(path)));
    }
    Ok(())
}

/// An image reference: `[host[:port]/]path[:tag][@algorithm:digest]`.
pub(super) fn image(reference: &str) -> Checked {
    if is_image(reference) {
        return Ok(());
    }
    Err(format!("'{}' is no image reference such as registry.local/group/name:tag", shown(reference)))
}

fn is_image(reference: &str) -> bool {
    const LONGEST: usize = 512;
    let (rest, digest) = split_last(reference, '@');
    // A colon after the last slash is the tag's; one before it is the port's.
    let slash = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (last, tag) = split_last(&rest[slash..], ':');
    let path = format!("{}{last}", &rest[..slash]);
    let (host, path) = match path.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host.to_owned()), path.to_owned())
        }
        Some(_) | None => (None, path.clone()),
    };
    reference.len() <= LONGEST
        && digest.is_none_or(is_digest)
        && tag.is_none_or(is_tag)
        && host.is_none_or(|host| is_host(&host))
        && path.split('/').all(is_path_part)
}

fn split_last(text: &str, separator: char) -> (&str, Option<&str>) {
    text.rsplit_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, value)) = digest.split_once(':') else { return false };
    let is_hexadecimal = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    !algorithm.is_empty()
        && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && value.len() >= 32
        && is_hexadecimal
}

fn is_tag(tag: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(is_inner) && !tag.starts_with(['.', '-'])
}

fn is_host(host: &str) -> bool {
    let (name, port) = split_last(host, ':');
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'[' | b']' | b':');
    !name.is_empty() && name.bytes().all(is_inner) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_path_part(part: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_end(part.bytes().next()) && is_end(part.bytes().last()) && part.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_or_subdomains() {
        for name in ["a", "lane-core", "0a", "a-1"] {
            assert!(label(name).is_ok(), "{name}");
            assert!(subdomain(name).is_ok(), "{name}");
        }
        assert!(subdomain("a.b-c.d").is_ok());
        for name in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "ä", &"a".repeat(64)] {
            assert!(label(name).is_err(), "{name}");
            assert!(subdomain(name).is_err(), "{name}");
        }
        assert!(object("HPC").is_ok() && object("a/b").is_err() && object("").is_err() && object("-x").is_err());
    }

    #[test]
    fn image_references_follow_the_common_form() {
        let digest = format!("busybox@sha256:{}", "0a".repeat(32));
        for good in [
            "busybox",
            "busybox:1.36",
            "library/busybox",
            "registry.local/lane/core:1.4",
            "localhost:5000/a/b:v1_2",
            "localhost/x",
            "10.0.0.1:5000/x",
            "a__b",
            &digest,
            "[::1]:5000/x",
        ] {
            assert!(image(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " busybox",
            "Busybox",
            "a:b:c",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a@",
            "a@sha256:zz",
            "docker://busybox",
            "a b",
            "x:-1",
            "reg.local:99999/x",
            "a@sha256:00",
            "oci-archive:/x.tar",
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_hold_no_parent_parts() {
        assert!(absolute_path("/a/..b").is_ok());
        for bad in ["a", "", "/a/../b", "/..", "/a\nb"] {
            assert!(absolute_path(bad).is_err(), "{bad:?}");
        }
        assert!(relative_path("a/b").is_ok() && relative_path("/a").is_err() && relative_path("../a").is_err());
    }

    #[test]
    fn variable_names_hold_no_equals_sign() {
        assert!(variable("A_b.c-1").is_ok());
        for bad in ["", "A=B", "A B", "ä"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
