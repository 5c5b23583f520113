//! Names inside archives: cleaned before use, escaped before they are shown.

use crate::error::{ArchiveError, ArchiveFailure};

/// PATH_MAX and NAME_MAX without their NUL: what Linux can open in one walk.
pub(crate) const MAX_PATH: usize = 4095;
const MAX_COMPONENT: usize = 255;

/// `name` as a path below the root without `.`, empty or `..` components; empty for the root itself.
///
/// Absolute names count from the root. `..` is taken textually, as Docker does, and may not leave the root.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let corrupt = |text: &str| Err(ArchiveError::new(ArchiveFailure::CorruptArchive, text));
    if name.is_empty() {
        return corrupt("an empty name");
    }
    if name.len() > MAX_PATH {
        return corrupt("a name longer than 4095 bytes");
    }
    if name.contains(&0) {
        return corrupt("a name with a NUL byte");
    }
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if path.is_empty() => {
                return Err(ArchiveError::new(
                    ArchiveFailure::UnsafePath,
                    "a name that leads out of the root directory",
                ));
            }
            b".." => path.truncate(split(&path).0.len()),
            _ if component.len() > MAX_COMPONENT => {
                return corrupt("a name with a component longer than 255 bytes");
            }
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(path)
}

/// Parent (empty for the root) and last component of a cleaned path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// `directory/name`, where an empty side adds nothing.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() || name.is_empty() {
        return [directory, name].concat();
    }
    [directory, b"/", name].concat()
}

/// `name` quoted for a message: control characters escaped, long names cut.
pub(crate) fn show(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    let cut = &name[..name.len().min(SHOWN)];
    let text: String = String::from_utf8_lossy(cut)
        .chars()
        .flat_map(|letter| {
            let escaped = letter.is_control() || letter == '"' || letter == '\\';
            let plain = (!escaped).then_some(letter);
            let escape = escaped.then(|| letter.escape_default());
            plain.into_iter().chain(escape.into_iter().flatten())
        })
        .collect();
    let more = if name.len() > SHOWN { "…" } else { "" };
    format!("\"{text}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_below_the_root() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("./", ""),
            ("/", ""),
            ("..a/.b./...", "..a/.b./..."),
        ] {
            assert_eq!(clean(name.as_bytes()).unwrap(), path.as_bytes(), "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_root_are_unsafe() {
        for name in ["..", "../a", "a/../../b", "/..", "./../a", "a/b/../../../c"] {
            let error = clean(name.as_bytes()).unwrap_err();
            assert_eq!(error.reason(), ArchiveFailure::UnsafePath, "{name}");
        }
    }

    #[test]
    fn impossible_names_are_corrupt() {
        let long = vec![b'x'; 256];
        let deep = b"a/".repeat(2048);
        for name in [b"".as_slice(), b"a\0b", &long, &deep] {
            let error = clean(name).unwrap_err();
            assert_eq!(error.reason(), ArchiveFailure::CorruptArchive);
        }
        assert!(clean(&vec![b'x'; 255]).is_ok());
    }

    #[test]
    fn shown_names_cannot_steer_a_terminal() {
        assert_eq!(show(b"a\x1b[2Jb\n\"c"), r#""a\u{1b}[2Jb\n\"c""#);
        assert_eq!(show("é漢".as_bytes()), "\"é漢\"");
        assert!(show(&vec![b'x'; 5000]).len() < 210);
    }
}
