//! Invalid configurations: the error names the place.

use std::path::Path;

use lockstep_gateway::config::{Config, Flags};

use crate::hostile::starts::{Folder, again};

/// The error for a configuration file.
fn wrong(text: &str) -> String {
    let folder = Folder::new();
    let file = folder.file("lockstep.toml", text.as_bytes());
    match Config::load(Some(&file), &Flags::default()) {
        Ok(config) => panic!("{text}\nis accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_the_file_has_wrong_is_said_with_file_line_and_field() {
    for (text, line, says) in [
        ("listen = 7", 1, "listen"),
        ("listen = \"localhost\"", 1, "listen"),
        ("\n\n[bounds]\nidle_ms = \"soon\"", 4, "idle_ms"),
        ("[bounds]\nrequests = 70000", 2, "requests"),
        ("[bounds]\npending = -1", 2, "pending"),
        ("[limits]\n\nmesage_bytes = 1", 3, "unknown field `mesage_bytes`"),
        ("lisen = \"127.0.0.1:1\"", 1, "unknown field `lisen`"),
        ("[agent]\nkind = \"oracle\"", 2, "unknown variant `oracle`"),
        ("[log]\nsync = 1", 2, "expected \"always\", \"interval\" or \"never\""),
        ("[log]\nsync = \"often\"", 2, "expected \"always\", \"interval\" or \"never\""),
        ("[tls]\ncertificate = \"a.pem\"", 1, "missing field `key`"),
        ("origins = \"https://chat.test\"", 1, "origins"),
        ("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", 2, "duplicate key"),
        ("[limits", 1, "limits"),
        ("[auth]\nsecret = \"hunter2\"", 2, "unknown field `secret`"),
    ] {
        let said = wrong(text);
        assert!(said.contains("lockstep.toml: ") && said.contains(&format!("line {line},")), "{text}\n{said}");
        assert!(said.contains(says), "{text}\n{said}");
    }
}

#[test]
fn a_duration_is_a_number_in_its_unit_or_a_text_with_a_unit() {
    let config = |text: &str| Config::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    for (text, milliseconds) in [("250", 250), ("\"250ms\"", 250), ("\"2s\"", 2_000), ("\"1 m\"", 60_000)] {
        assert_eq!(config(&format!("[agent]\npace_ms = {text}")).agent.pace_ms, milliseconds, "{text}");
    }
    for (text, seconds) in [("90", 90), ("\"90s\"", 90), ("\"2h\"", 7_200), ("\"30d\"", 2_592_000)] {
        assert_eq!(
            config(&format!("[login]\nlongest_seconds = {text}\nidle_seconds = 60")).login.longest_seconds,
            seconds
        );
    }
    assert_eq!(config("[log]\nkeep_days = \"48h\"").log.keep_days, 2);
    assert_eq!(config("[bounds]\nidle_ms = \"2m\"").bounds.idle_ms, 120_000);
    for text in ["45", "1500ms", "soon", "-1s", "", "s", "99999999999999999999d", "36 hours"] {
        let said = wrong(&format!("[login]\nidle_seconds = \"{text}\""));
        assert!(said.contains("line 2,") && said.contains("such as \"45s\""), "{text}: {said}");
    }
}

#[test]
fn a_rule_that_is_broken_is_said_with_the_field() {
    for (text, says) in [
        ("[bounds]\nidle_ms = 10", "`bounds.idle_ms` must be longer than `bounds.heartbeat_ms`"),
        ("[bounds]\nconnections = 0", "`bounds.connections` must be at least 1"),
        ("[bounds]\npending = 3", "`bounds.pending` must be at least `bounds.runs` × (`bounds.tools` + 1)"),
        ("[bounds]\nverification_ms = 60000", "`bounds.handshake_ms` must be longer than `bounds.verification_ms`"),
        ("[bounds]\nhandshake_ms = 10", "`bounds.handshake_ms` must be longer than `bounds.verification_ms`"),
        ("[bounds]\nbackoff_most_ms = 1", "`bounds.backoff_most_ms` must not be shorter than `bounds.backoff_ms`"),
        ("[bounds]\nbackoff_ms = 0", "`bounds.backoff_ms` must not be zero"),
        ("[limits]\nmessage_bytes = 10", "`limits.message_bytes` must be at least 1024"),
        ("[limits]\nheader_bytes = 10", "`limits.header_bytes` must be at least 8192"),
        ("[limits]\nheader_ms = 0", "`limits.header_ms` must be at least"),
        ("[limits]\nrequest_ms = 0", "`limits.request_ms` must be at least"),
        ("[limits]\nper_address = 0", "`limits.per_address` must be at least 1"),
        ("[limits]\nsockets = 0", "`limits.sockets` must be at least 1"),
        ("[log]\nsync_ms = 0", "`log.sync_ms` must be at least 1"),
        ("[trace]\nfile_bytes = 1000", "`trace.file_bytes` must be at least 65536"),
        ("[trace]\nfiles = 0", "`trace.files` must be at least 1"),
        ("origins = [\"chat.test\"]", "`origins` contains \"chat.test\""),
        ("origins = [\"https://chat.test/\"]", "`origins` contains \"https://chat.test/\""),
        ("[auth]\nissuer = \"jwt\"", "`auth` with `issuer = \"jwt\"` needs either `key_file` or `jwks_url`"),
        ("[auth]\ntoken_seconds = 1", "`auth.token_seconds` must be at least 10"),
        ("[agent]\nkind = \"openai\"", "`agent` with `kind = \"openai\"` needs `base_url` and `model`"),
        ("[agent]\nkind = \"agui\"", "`agent` with `kind = \"agui\"` needs `url`"),
        ("[agent]\nmax_event_bytes = 9", "`agent.max_event_bytes` must be at least 1024"),
    ] {
        let said = wrong(text);
        assert!(said.contains(says), "{text}\n{said}");
        assert!(!said.contains("LOCKSTEP_"), "{text}\n{said}");
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_named() {
    let folder = Folder::new();
    for file in [folder.path("missing.toml"), folder.path(""), folder.file("bytes.toml", b"\xFF\xFE")] {
        let said = Config::load(Some(&file), &Flags::default()).expect_err("an error").to_string();
        assert!(said.contains("cannot read the configuration") && said.contains(&file.display().to_string()), "{said}");
    }
}

/// Prints the configuration that results from flags, environment and file. Another test starts this in a process of its
/// own.
#[test]
fn prints_what_the_environment_says() {
    use std::io::Write;
    let Some(file) = std::env::var_os("FILE_UNDER_TEST") else { return };
    let flags = Flags { data_dir: Some("of-the-flags".into()), ..Flags::default() };
    let said = match Config::load(Some(Path::new(&file)), &flags) {
        Ok(config) => format!("{} {} {}", config.listen, config.data_dir.display(), config.bounds.runs),
        Err(error) => error.to_string(),
    };
    writeln!(std::io::stdout(), "SAID {said}").expect("a reader");
}

/// The output for these variables and a file.
async fn said(variables: &[(&str, &str)], file: &str) -> String {
    let folder = Folder::new();
    let file = folder.file("lockstep.toml", file.as_bytes());
    let mut command = again("config::prints_what_the_environment_says");
    command.env("FILE_UNDER_TEST", file).envs(variables.iter().copied());
    let output = command.output().await.expect("a process");
    let output = String::from_utf8(output.stdout).expect("text");
    output.split_once("SAID ").expect("what it said").1.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn flags_come_before_the_environment_and_that_before_the_file() {
    let file = "listen = \"127.0.0.1:1\"\ndata_dir = \"of-the-file\"\n[bounds]\nruns = 3";
    let variables = [("LOCKSTEP_LISTEN", "127.0.0.1:2"), ("LOCKSTEP_DATA_DIR", "of-the-environment")];
    assert_eq!(said(&variables, file).await, "127.0.0.1:2 of-the-flags 3");
    assert_eq!(said(&[("LOCKSTEP_BOUNDS__RUNS", "4")], file).await, "127.0.0.1:1 of-the-flags 4");
}

#[tokio::test]
async fn a_variable_that_is_wrong_is_said_with_the_field_and_its_name() {
    // Valid settings are not reported.
    let [pace, runs] = [("LOCKSTEP_AGENT__PACE_MS", "1"), ("LOCKSTEP_BOUNDS__RUNS", "2")];
    for (name, value, field) in [
        ("LOCKSTEP_LISTEN", "nowhere", "`listen`"),
        ("LOCKSTEP_BOUNDS__IDLE_MS", "soon", "`bounds.idle_ms`"),
        ("LOCKSTEP_LISEN", "127.0.0.1:1", "`lisen`"),
        ("LOCKSTEP_AGENT__KIND", "oracle", "`agent.kind`"),
        ("LOCKSTEP_AGENT__KINT", "builtin", "`kint`"),
        ("LOCKSTEP_BOUNDS__IDLE", "1", "`idle`"),
        ("LOCKSTEP_ORIGINS", "[1]", "`origins.0`"),
        ("LOCKSTEP_TLS__CERTIFICATE", "a.pem", "missing field `key`"),
        ("LOCKSTEP_LIMITS__HEADER_BYTES", "1", "`limits.header_bytes` must be at least"),
        ("LOCKSTEP_BOUNDS__HEARTBEAT_MS", "60000", "`bounds.idle_ms` must be longer than `bounds.heartbeat_ms`"),
        ("LOCKSTEP_AUTH__ISSUER", "jwt", "`auth` with `issuer = \"jwt\"` needs either"),
    ] {
        let said = said(&[pace, runs, (name, value)], "").await;
        assert!(said.contains(field) && said.ends_with(&format!(" (from {name})")), "{name}={value}: {said}");
    }
}

#[tokio::test]
async fn the_variables_of_the_commands_own_flags_are_no_fields() {
    let variables = [("LOCKSTEP_CONFIG", "lockstep.toml"), ("LOCKSTEP_LOG_FILTER", "debug")];
    assert_eq!(said(&variables, "listen = \"127.0.0.1:1\"").await, "127.0.0.1:1 of-the-flags 8");
}

/// The name of a field that is printed as a comment, because it is not set.
fn commented(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("# ")?.split_once(" = ")?;
    name.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(name)
}

#[test]
fn what_is_printed_holds_everything_there_is_to_set_with_a_sentence_each_and_is_read_again() {
    let folder = Folder::new();
    let tls =
        "[tls]\ncertificate = \"a.pem\"\nkey = \"b.pem\"\n[auth]\nissuer = \"jwt\"\njwks_url = \"http://127.0.0.1/\"";
    for (text, absent) in [("", &["tls", "auth.key_file", "auth.jwks_url"][..]), (tls, &["auth.key_file"])] {
        let load = |text: &str| Config::load(Some(&folder.file("lockstep.toml", text.as_bytes())), &Flags::default());
        let config = load(text).expect("a configuration");
        let printed = config.print().expect("TOML");
        assert_eq!(load(&printed).expect(&printed), config);
        let (mut table, mut sentence) = (String::new(), String::new());
        let mut is_set = true;
        let mut fields = Vec::new();
        for line in printed.lines() {
            if let Some(name) = line.trim_start_matches("# ").strip_prefix('[') {
                table = format!("{}.", name.trim_end_matches(']'));
                is_set = !line.starts_with('#');
            } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                assert!(
                    sentence.ends_with('.') || sentence.ends_with('`'),
                    "{table}{name} has no sentence: {sentence}"
                );
                fields.push(format!("{table}{name}"));
            } else if let Some(name) = commented(line) {
                fields.push(format!("{table}{name}"));
                let used = printed.replacen(line, line.trim_start_matches("# "), 1);
                let said = Config::parse(&used).err().map(|error| error.to_string()).unwrap_or_default();
                let is_right = !said.contains("invalid type") && !said.contains("unknown field");
                assert!(is_right || !is_set, "{line}: {said}");
            }
            line.strip_prefix("# ").unwrap_or_default().clone_into(&mut sentence);
        }
        let debug = format!("{config:?}");
        // The debug form names every field of every struct, and each must be printed.
        for name in debug.split(": ").filter_map(|before| before.rsplit([' ', '{', ',']).find(|name| !name.is_empty()))
        {
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase());
            let is_printed = fields.iter().any(|field| field.ends_with(name)) || printed.contains(&format!("[{name}]"));
            assert!(!is_name || is_printed, "{name} is not printed");
        }
        for name in absent {
            let said = name.rsplit('.').next().unwrap_or(name);
            assert!(printed.contains(&format!("# {said} = ")) || printed.contains(&format!("# [{said}]")), "{name}");
        }
    }
}
