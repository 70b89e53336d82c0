//! What the cases need a container or a command inside one to do, and how each engine is told.

/// A behaviour, independent of the engine. Those that stay print `ready` once their handlers are in place.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Ends after so many milliseconds with this code.
    ExitAfter(u64, i32),
    /// Stays until SIGTERM, which ends it with 143.
    Stay,
    /// Stays until SIGTERM, which ends it after so many milliseconds with this code.
    OnTerm(u64, i32),
    /// Stays whatever SIGTERM says.
    IgnoreTerm,
    /// Prints these lines to stdout and those to stderr, and ends with 0.
    Print(&'static [&'static str], &'static [&'static str]),
    /// Prints 0, 1, 2 … every 50 ms until SIGTERM.
    Count,
    /// A crash with a segmentation fault: 139.
    Crash,
    /// Uses more memory than any limit, until it is killed.
    EatMemory,
    /// Prints a variable.
    PrintEnv(&'static str),
    /// Prints `uid:gid`.
    PrintUser,
    /// Prints the names of the network interfaces.
    PrintInterfaces,
    /// Writes a line to a file; where that fails: a reason on stderr and a code other than 0.
    Write(&'static str, &'static str),
    /// Prints a file; where that fails: a reason on stderr and a code other than 0.
    Read(&'static str),
}

/// The simulator's words.
pub fn for_sim(behaviour: &Behaviour) -> Vec<String> {
    let ready = || "log:stdout:0ms:ready".to_owned();
    let print = |stream: &'static str, lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| format!("log:{stream}:0ms:{line}")).collect()
    };
    let done = || "exit-after:0ms:0".to_owned();
    match behaviour {
        Behaviour::ExitAfter(ms, code) => vec![format!("exit-after:{ms}ms:{code}")],
        Behaviour::Stay => vec![ready()],
        Behaviour::OnTerm(ms, code) => vec![ready(), format!("on-term:{ms}ms:{code}")],
        Behaviour::IgnoreTerm => vec![ready(), "ignore-term".into()],
        Behaviour::Print(stdout, stderr) => [print("stdout", stdout), print("stderr", stderr), vec![done()]].concat(),
        Behaviour::Count => vec!["every:stdout:50ms:{n}".into()],
        Behaviour::Crash => vec!["crash-after:0ms:SIGSEGV".into()],
        Behaviour::EatMemory => vec!["oom-after:50ms".into()],
        Behaviour::PrintEnv(name) => vec![done(), format!("print-env:{name}")],
        Behaviour::PrintUser => vec![done(), "print-user".into()],
        Behaviour::PrintInterfaces => vec![done(), "print-interfaces".into()],
        Behaviour::Write(path, text) => vec![done(), format!("write:{path}:{text}")],
        Behaviour::Read(path) => vec![done(), format!("read:{path}")],
    }
}

/// A shell of busybox. The first process of a container has no default handlers, so that each has its own.
#[allow(dead_code, reason = "used by the engines that run real processes")]
pub fn for_busybox(behaviour: &Behaviour) -> Vec<String> {
    let stay = |trap: &str| format!("trap \"{trap}\" TERM; echo ready; while :; do sleep 0.1; done");
    let seconds = |ms: &u64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let script = match behaviour {
        Behaviour::ExitAfter(0, code) => format!("exit {code}"),
        Behaviour::ExitAfter(ms, code) => format!("sleep {}; exit {code}", seconds(ms)),
        Behaviour::Stay => stay("exit 143"),
        Behaviour::OnTerm(ms, code) => stay(&format!("sleep {}; exit {code}", seconds(ms))),
        Behaviour::IgnoreTerm => stay(""),
        Behaviour::Print(stdout, stderr) => {
            let out = stdout.iter().map(|line| format!("echo '{line}'; "));
            out.chain(stderr.iter().map(|line| format!("echo '{line}' >&2; "))).collect()
        }
        Behaviour::Count => "trap \"exit 143\" TERM; n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done".to_owned(),
        // The first process cannot send itself a deadly signal, so that a child does and it passes the code on.
        Behaviour::Crash => "sh -c 'kill -SEGV $$'; exit $?".to_owned(),
        Behaviour::EatMemory => "exec tail /dev/zero".to_owned(),
        Behaviour::PrintEnv(name) => format!("echo \"${name}\""),
        Behaviour::PrintUser => "echo $(id -u):$(id -g)".to_owned(),
        Behaviour::PrintInterfaces => r"sed -n 's/^ *\(.*\):.*/\1/p' /proc/net/dev".to_owned(),
        Behaviour::Write(path, text) => format!("echo '{text}' > {path}"),
        Behaviour::Read(path) => format!("cat {path}"),
    };
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// The same where a journal takes the output that is not told whose it is, and has to look before the process that wrote it is
/// gone: so that one writes which stays a moment.
pub fn for_journal(behaviour: &Behaviour) -> Vec<String> {
    let mut command = for_busybox(behaviour);
    let prints_and_ends = match behaviour {
        Behaviour::Print(..)
        | Behaviour::PrintEnv(_)
        | Behaviour::PrintUser
        | Behaviour::PrintInterfaces
        | Behaviour::Write(..)
        | Behaviour::Read(_) => true,
        Behaviour::ExitAfter(..)
        | Behaviour::Stay
        | Behaviour::OnTerm(..)
        | Behaviour::IgnoreTerm
        | Behaviour::Count
        | Behaviour::Crash
        | Behaviour::EatMemory => false,
    };
    if let (true, Some(script)) = (prints_and_ends, command.last_mut()) {
        *script =
            format!("out=$({{ {script}\n}} 2>&1); code=$?; [ -z \"$out\" ] || echo \"$out\"; sleep 0.2; exit $code");
    }
    command
}
