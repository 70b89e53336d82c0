//! Varlink, as much of it as one question takes: a JSON object each way over a unix socket, ended by a NUL.
//!
//! Source: varlink.org, "Method call".

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::UnixAddr;
use serde_json::{Value, json};

use super::unix::open_socket;
use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// The longest answer, bytes.
const MOST: usize = 64 * 1024;

/// Between two looks at the token while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// Calls a method without parameters and gives what it answers. An error that the peer answers is of the kind `Other`.
pub fn call(path: &Path, method: &str, deadline: Deadline, cancel: &CancelToken) -> io::Result<Value> {
    let mut stream = open_socket(&UnixAddr::new(path)?, deadline, cancel)?;
    let mut question = json!({ "method": method, "parameters": {} }).to_string().into_bytes();
    question.push(0);
    stream.set_write_timeout(Some(LOOK))?;
    // So little fits into a socket that nothing was written to.
    stream.write_all(&question)?;
    let mut answer = Vec::new();
    while answer.last() != Some(&0) {
        if deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let left = deadline.at_most(LOOK).remaining();
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) if answer.len() + read > MOST => return Err(io::Error::other("the answer is too long")),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    answer.pop();
    let mut answer: Value = serde_json::from_slice(&answer)?;
    match answer.get("error") {
        Some(error) => Err(io::Error::other(format!("{method} is answered by {error}"))),
        None => Ok(answer.get_mut("parameters").map(Value::take).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What comes of a call to a peer that answers so.
    fn answered(answer: &'static [u8]) -> io::Result<Value> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = [0; 4096];
                let read = stream.read(&mut question).unwrap();
                assert!(question[..read].starts_with(br#"{"method":"a.B""#));
                stream.write_all(answer).unwrap();
                // Until the caller has had enough.
                let _ = stream.read(&mut question);
            });
            call(&path, "a.B", Deadline::after(Duration::from_millis(300)), &CancelToken::new())
        })
    }

    #[test]
    fn answer_error_and_silence_are_told_apart() {
        assert_eq!(answered(b"{\"parameters\":{\"a\":1}}\0").unwrap(), json!({ "a": 1 }));
        let refused = answered(b"{\"error\":\"org.varlink.service.MethodNotFound\"}\0").unwrap_err();
        assert!(refused.to_string().contains("MethodNotFound"), "{refused}");
        assert_eq!(answered(b"{\"parameters\":").unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(answered(b"what\0").is_err());
        let nobody = call(Path::new("/nowhere"), "a.B", Deadline::after(Duration::from_secs(1)), &CancelToken::new());
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
