//! The transient unit that `run --runtime systemd` launches: a program and its options as a document.

/// What `run` was asked for.
#[derive(Debug, Clone, Default)]
pub struct UnitRequest {
    /// The workload; empty takes the program's last part.
    pub name: String,
    /// The program's path.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment, in this order.
    pub env: Vec<(String, String)>,
    /// Bytes; `None` is no limit.
    pub memory: Option<u64>,
    /// A Kubernetes quantity; `None` is no limit.
    pub cpus: Option<String>,
}

impl UnitRequest {
    /// The workload's name, and the document.
    pub fn document(&self) -> Result<(String, String), String> {
        if !self.program.starts_with('/') {
            return Err(format!(
                "'{}' is no path of a program, which systemd is asked for by its whole path",
                self.program
            ));
        }
        let name = match self.name.as_str() {
            "" => self.program.rsplit('/').next().unwrap_or_default().to_ascii_lowercase(),
            name => name.to_owned(),
        };
        let mut words = vec![quoted(&self.program, true)?];
        for arg in &self.args {
            words.push(quoted(arg, true)?);
        }
        let mut text = format!("[X-ActionController]\nName={name}\nTransient=yes\n\n[Service]\nType=exec\n");
        text.push_str(&format!("ExecStart={}\n", words.join(" ")));
        for (variable, value) in &self.env {
            text.push_str(&format!("Environment={}\n", quoted(&format!("{variable}={value}"), false)?));
        }
        if let Some(bytes) = self.memory {
            text.push_str(&format!("MemoryMax={bytes}\n"));
        }
        if let Some(cpus) = &self.cpus {
            text.push_str(&format!("CPUQuota={}%\n", percent(cpus)?));
        }
        Ok((name, text))
    }
}

/// A word in quotes, as `systemd.syntax(7)` and, for commands, `systemd.service(5)` read it back.
fn quoted(word: &str, is_command: bool) -> Result<String, String> {
    let mut text = String::from("\"");
    for one in word.chars() {
        match one {
            '%' => text.push_str("%%"),
            '$' if is_command => text.push_str("$$"),
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            one if one.is_control() => {
                return Err(format!("'{}' has a character that no unit can have", word.escape_debug()));
            }
            one => text.push(one),
        }
    }
    text.push('"');
    Ok(text)
}

/// A Kubernetes quantity of CPUs as a percentage of one.
fn percent(cpus: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let percent = match cpus.strip_suffix('m') {
        Some(thousandths) => number(thousandths).map(|thousandths| thousandths / 10.0),
        None => number(cpus).map(|cpus| cpus * 100.0),
    };
    percent.map(|percent| format!("{percent:.2}")).ok_or_else(|| format!("'{cpus}' is no number of CPUs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_a_transient_unit_of_its_name() {
        let request = UnitRequest {
            program: "/usr/bin/Lamp".to_owned(),
            args: vec!["--dim".to_owned(), "50% of $max \"now\"".to_owned()],
            env: vec![("A".to_owned(), "b c$%".to_owned())],
            memory: Some(4096),
            cpus: Some("250m".to_owned()),
            ..UnitRequest::default()
        };
        let (name, text) = request.document().unwrap();
        assert_eq!(name, "lamp");
        let expected = "[X-ActionController]\nName=lamp\nTransient=yes\n\n[Service]\nType=exec\n\
            ExecStart=\"/usr/bin/Lamp\" \"--dim\" \"50%% of $$max \\\"now\\\"\"\nEnvironment=\"A=b c$%%\"\n\
            MemoryMax=4096\nCPUQuota=25.00%\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_no_path_or_cannot_be_written_is_refused() {
        let of = |program: &str, args: &[&str], cpus: Option<&str>| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let cpus = cpus.map(str::to_owned);
            UnitRequest { program: program.to_owned(), args, cpus, ..UnitRequest::default() }.document().unwrap_err()
        };
        assert!(of("nginx:1", &[], None).contains("'nginx:1' is no path"));
        assert!(of("/bin/true", &["a\u{7}"], None).contains("no unit can have"));
        assert!(of("/bin/true", &[], Some("0")).contains("no number of CPUs"));
    }
}
