//! The unix socket's file: bound without a window in which others could connect, taken over only when nobody listens,
//! removed only while it is ours.
//!
//! gRPC's core binds the path by itself, with the process's umask, and deletes a socket that is there, listening or not.
//! So it is given a path in a private folder; mode and group are set there, and the finished socket is renamed into its
//! place. (Changing the umask instead would change it for every thread.) Of two daemons that start at once the later
//! rename wins; what keeps them apart is the lock of the store, which is taken before.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{Group, chown};

use super::ServerError;

/// Where the server listens locally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixConfig {
    /// The socket's path; its folder has to be there. At most 107 bytes, as the kernel has it.
    pub path: PathBuf,
    /// The file's mode; who may write may connect.
    pub mode: u32,
    /// The file's group; empty leaves the process's own.
    pub group: String,
}

/// The longest path of a unix socket on Linux, bytes.
const MAX_PATH: usize = 107;

/// How many names of private folders are tried.
const TRIES: u32 = 16;

/// How gRPC names the unix socket at `path`: as a URI, so what is special there is escaped.
pub fn unix_address(path: &Path) -> String {
    let mut address = String::from("unix:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                address.push(char::from(*byte))
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}

/// A socket file of ours.
#[derive(Debug)]
pub(super) struct UnixSocket {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixSocket {
    /// Has `bind` bind and listen at an address, then puts the socket in its place.
    pub fn listen(
        config: &UnixConfig,
        bind: impl FnOnce(&str) -> Result<(), ServerError>,
    ) -> Result<Self, ServerError> {
        let group = group(&config.group)?;
        check_free(&config.path)?;
        let private = PrivateFolder::beside(&config.path)?;
        let file = private.file();
        if file.as_os_str().len() > MAX_PATH || config.path.as_os_str().len() > MAX_PATH {
            return Err(ServerError::LongPath { path: config.path.clone() });
        }
        bind(&unix_address(&file))?;
        let failed = |what| move |source| ServerError::Socket { path: config.path.clone(), what, source };
        if group.is_some() {
            chown(&file, None, group).map_err(io::Error::from).map_err(failed("giving it its group"))?;
        }
        fs::set_permissions(&file, Permissions::from_mode(config.mode)).map_err(failed("setting its mode"))?;
        let metadata = fs::symlink_metadata(&file).map_err(failed("looking at it"))?;
        fs::rename(&file, &config.path).map_err(failed("putting it in its place"))?;
        Ok(Self { path: config.path.clone(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Removes the file unless another one has taken its place.
    pub fn remove(&self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if !ours {
            log::warn!("the socket '{}' is no longer ours and stays", self.path.display());
        } else if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the socket '{}' could not be removed: {error}", self.path.display());
        }
    }
}

/// The group of this name; none for the empty one.
fn group(name: &str) -> Result<Option<nix::unistd::Gid>, ServerError> {
    if name.is_empty() {
        return Ok(None);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid)),
        Ok(None) | Err(_) => Err(ServerError::UnknownGroup { name: name.to_owned() }),
    }
}

/// Refuses a path where someone listens, or where something other than a socket is.
fn check_free(path: &Path) -> Result<(), ServerError> {
    let failed = |what, source| Err(ServerError::Socket { path: path.to_owned(), what, source });
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return failed("looking at it", error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match try_connect(path) {
        // EAGAIN: someone listens and has its queue full.
        Ok(()) | Err(Errno::EAGAIN) => Err(ServerError::InUse { path: path.to_owned() }),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => {
            log::info!("taking over the socket '{}', on which nobody listens", path.display());
            Ok(())
        }
        Err(errno) => failed("asking who listens on it", errno.into()),
    }
}

/// Connects without waiting.
fn try_connect(path: &Path) -> nix::Result<()> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &address)
}

/// A folder that only we can enter, on the same file system as the socket; gone when dropped.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn beside(socket: &Path) -> Result<Self, ServerError> {
        let folder = socket.parent().unwrap_or(Path::new(""));
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..TRIES {
            // What an earlier process of this number left behind is not touched.
            let path = folder.join(format!(".{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(source) => {
                    let what = "making a folder beside it";
                    return Err(ServerError::Socket { path: socket.to_owned(), what, source });
                }
            }
        }
        Err(ServerError::Socket { path: socket.to_owned(), what: "making a folder beside it", source: last })
    }

    fn file(&self) -> PathBuf {
        self.0.join(OsString::from("s"))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // Absent once it was renamed.
        let _ = fs::remove_file(self.file());
        if let Err(error) = fs::remove_dir(&self.0) {
            log::warn!("the folder '{}' could not be removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn config(folder: &tempfile::TempDir) -> UnixConfig {
        UnixConfig { path: folder.path().join("s.sock"), mode: 0o660, group: String::new() }
    }

    /// Binds like gRPC's core; the listener lives until the vector is dropped.
    fn bind(kept: &mut Vec<UnixListener>) -> impl FnOnce(&str) -> Result<(), ServerError> {
        |address| {
            kept.push(UnixListener::bind(address.strip_prefix("unix:").unwrap()).unwrap());
            Ok(())
        }
    }

    #[test]
    fn socket_has_its_mode_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Vec::new();
        let socket = UnixSocket::listen(&config(&folder), bind(&mut kept)).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["s.sock"]);
        assert_eq!(fs::metadata(&socket.path).unwrap().mode() & 0o777, 0o660);
        socket.remove();
        assert!(!socket.path.exists());
    }

    #[test]
    fn folder_in_which_the_socket_is_made_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Vec::new();
        let mut mode = 0;
        UnixSocket::listen(&config(&folder), |address| {
            let path = Path::new(address.strip_prefix("unix:").unwrap()).parent().unwrap().to_owned();
            mode = fs::metadata(path).unwrap().mode() & 0o777;
            bind(&mut kept)(address)
        })
        .unwrap();
        assert_eq!(mode, 0o700);
    }

    #[test]
    fn socket_that_someone_listens_on_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let _listener = UnixListener::bind(&config.path).unwrap();
        let error = UnixSocket::listen(&config, |_| panic!("must not bind")).unwrap_err();
        assert!(matches!(error, ServerError::InUse { .. }), "{error}");
        assert!(config.path.exists());
    }

    #[test]
    fn stale_socket_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        drop(UnixListener::bind(&config.path).unwrap());
        let mut kept = Vec::new();
        UnixSocket::listen(&config, bind(&mut kept)).unwrap();
        std::os::unix::net::UnixStream::connect(&config.path).unwrap();
    }

    #[test]
    fn file_that_is_no_socket_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        fs::write(&config.path, "data").unwrap();
        let error = UnixSocket::listen(&config, |_| panic!("must not bind")).unwrap_err();
        assert!(matches!(error, ServerError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read(&config.path).unwrap(), b"data");
    }

    #[test]
    fn socket_of_another_process_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let mut kept = Vec::new();
        let socket = UnixSocket::listen(&config, bind(&mut kept)).unwrap();
        fs::remove_file(&config.path).unwrap();
        let _other = UnixListener::bind(&config.path).unwrap();
        socket.remove();
        assert!(config.path.exists());
    }

    #[test]
    fn unknown_group_missing_folder_and_long_path_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let with = |change: fn(&mut UnixConfig)| {
            let mut config = config(&folder);
            change(&mut config);
            UnixSocket::listen(&config, |_| panic!("must not bind")).unwrap_err().to_string()
        };
        assert!(with(|config| config.group = "no-such-group".into()).contains("'no-such-group'"));
        assert!(with(|config| config.path = "/no/such/folder/s.sock".into()).contains("/no/such/folder/s.sock"));
        assert!(with(|config| config.path = config.path.with_file_name("x".repeat(120))).contains("107"));
    }

    #[test]
    fn address_escapes_what_a_uri_would_take_apart() {
        assert_eq!(unix_address(Path::new("/run/a-c/x.sock")), "unix:/run/a-c/x.sock");
        assert_eq!(unix_address(Path::new("/run/a b%?#")), "unix:/run/a%20b%25%3F%23");
    }
}
