//! The examples of README and `docs`: each YAML block is checked, each block of shell or make is run as it stands there.
//!
//! A block is found by a line that it holds, so that it can't be changed without being run. What is changed before it is
//! run is where the server is, as that of a test has a port of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::client::terminal::Terminal;
use crate::run::terminal::picture;
use crate::space::{Server, TestSpace};
use crate::tools::{is_there, say_skipped, send_signal};

/// Each block of shell or make, by its file and a part of it.
const RUN: [(&str, &str); 10] = [
    ("README.md", "./target/release/prunner debug"),
    ("README.md", "prunner logs -f \"$job\""),
    ("README.md", "export RELEASE"),
    ("README.md", "if job=$(prunner schedule deploy"),
    ("README.md", "--data build/prunner"),
    ("README.md", "--json > build/events.jsonl"),
    ("docs/operating.md", "tar -czf backup.tar.gz"),
    ("docs/operating.md", "mkdir restored"),
    ("docs/operating.md", "mv old.json"),
    ("docs/operating.md", "--retention-period 30d --retention-count"),
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(project().join(name)).unwrap()
}

/// The blocks of a file: the word behind the opening fence, and the text.
fn blocks(name: &str) -> Vec<(String, String)> {
    let text = read(name);
    let fenced = text.split("```").skip(1).step_by(2);
    let blocks = fenced.map(|block| block.split_once('\n').unwrap());
    blocks.map(|(kind, text)| (kind.to_owned(), text.to_owned())).collect()
}

/// The one block of a file that holds this.
#[track_caller]
fn block(name: &str, part: &str) -> String {
    assert!(RUN.contains(&(name, part)), "`{part}` is missing in the list");
    let mut found: Vec<String> = blocks(name)
        .into_iter()
        .filter(|(kind, text)| kind != "console" && text.contains(part))
        .map(|(_, text)| text)
        .collect();
    assert_eq!(found.len(), 1, "{name}: `{part}`");
    found.remove(0)
}

fn documents() -> Vec<String> {
    let entries = fs::read_dir(project().join("docs")).unwrap();
    let names = entries.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    names.chain(["README.md".to_owned()]).collect()
}

/// A project with these pipelines; `prunner` is in its `bin`, and its data directory and secret have their usual names.
fn space_with(pipelines: &str) -> TestSpace {
    let space = TestSpace::new(&read(pipelines));
    for directory in ["bin", "target/release"] {
        let directory = space.path.join(directory);
        fs::create_dir_all(&directory).unwrap();
        symlink(env!("CARGO_BIN_EXE_prunner"), directory.join("prunner")).unwrap();
    }
    space
}

fn shell(space: &TestSpace, script: &str, address: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", script]);
    let path = std::env::var("PATH").unwrap();
    space
        .command_by(command, &[])
        .env("PATH", format!("{}:{path}", space.path.join("bin").display()))
        .env("PRUNNER_ADDRESS", address)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// All that it has printed.
#[track_caller]
fn check(output: &Output, status: i32, expected: &str) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(text.contains(expected), "`{expected}` is missing: {text}");
    text
}

/// With the pipelines of the examples, and a site to deploy.
fn site() -> (TestSpace, Server) {
    let space = space_with("examples/pipelines.yml");
    space.write("site/index.html", "hello\n");
    let server = space.serve();
    (space, server)
}

/// A block is whole, or it is a part of a pipeline or of a task, as its first key says.
fn whole(block: &str) -> Option<String> {
    let first = block.lines().find(|line| !line.starts_with('#') && !line.is_empty())?;
    let key = first.split_once(':').unwrap().0;
    let (head, indent, tail) = match key {
        "pipelines" => return Some(block.to_owned()),
        "script" | "depends_on" | "allow_failure" | "interruptible" | "retry" => {
            ("pipelines:\n  part:\n    tasks:\n      part:\n", 8, "script: ['true']")
        }
        _ => ("pipelines:\n  part:\n", 4, "tasks: {part: {script: ['true']}}"),
    };
    let lines = block.lines().chain([tail]);
    let lines = lines.map(|line| format!("{:indent$}{line}\n", ""));
    Some(head.to_owned() + &lines.collect::<String>())
}

#[test]
fn each_yaml_block_is_a_definition_without_mistakes() {
    let space = TestSpace::new("pipelines: {}");
    let mut checked = 0;
    for name in documents() {
        for (kind, text) in blocks(&name) {
            let Some(definition) = (kind == "yaml").then(|| whole(&text)).flatten() else {
                continue;
            };
            space.write("example.yml", &definition);
            let output = space.run(&["validate", "example.yml"]);
            assert!(output.status.success(), "{name}: {definition}{output:?}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked} blocks were found");
}

#[test]
fn each_block_is_of_a_kind_that_is_checked() {
    for name in documents() {
        for (kind, text) in blocks(&name) {
            let is_run = RUN.iter().any(|(file, part)| *file == name && text.contains(part));
            let is_known = match &*kind {
                "sh" | "make" => is_run,
                // What commands show; `http` and `json` are no examples to type.
                "yaml" | "console" | "json" | "http" => true,
                _ => false,
            };
            assert!(is_known, "{name}: nothing runs this block `{kind}`:\n{text}");
        }
    }
}

#[test]
fn the_first_job_runs_as_written() {
    if !is_there("curl") {
        return say_skipped("curl", "nobody has run the first job of the README");
    }
    let space = space_with("pipelines.example.yml");
    let server = space.serve();
    let block = block("README.md", "./target/release/prunner debug");
    assert!(block.contains("localhost:9009"));
    let output = shell(&space, &block.replace("localhost:9009", &server.address), "", &[]);
    let text = check(&output, 0, "hello, building 42\nstaging\n");
    assert!(text.contains(r#""status":"succeeded""#), "{text}");
}

/// The commands of console blocks, each with what stands below it.
fn transcripts(name: &str) -> Vec<(String, String)> {
    let consoles = blocks(name).into_iter().filter(|(kind, _)| kind == "console");
    let mut found: Vec<(String, String)> = Vec::new();
    for (_, text) in consoles {
        for line in text.lines() {
            match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push((command.to_owned(), String::new())),
                (None, Some((_, shown))) => *shown += &format!("{line}\n"),
                (None, None) => panic!("a block begins with a command: {text}"),
            }
        }
    }
    found
}

/// Without what differs each time: ids, times, tokens, and how wide a column is for them.
fn plain(text: &str) -> String {
    let plain_part = |part: &str| {
        let bare = part.trim_matches([',', '`', '[', ']']);
        let bare = bare.strip_suffix(':').unwrap_or(bare);
        let is_time = bare.starts_with(|first: char| first.is_ascii_digit())
            && (bare.ends_with('s') || bare.contains(['-', ':']));
        // Winter time and summer time.
        let is_zone = ["CET", "CEST"].contains(&bare);
        let is_token = bare.starts_with("eyJ") && bare.matches('.').count() == 2;
        if is_id(bare) || is_time || is_zone || is_token {
            "…".to_owned()
        } else {
            part.to_owned()
        }
    };
    let lines = text.lines().map(|line| {
        let words = line.split_ascii_whitespace().map(|word| {
            // JSON, and what a shell has in quotes.
            let parts = word.split(['"', '\'']).map(plain_part);
            parts.collect::<Vec<_>>().join("\"")
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && text.matches('-').count() == 4
}

#[test]
fn what_comes_through_a_pipe_is_what_the_readme_shows() {
    let space = space_with("pipelines.example.yml");
    space.write("pipelines.example.yml", &read("pipelines.example.yml"));
    let server = space.serve();
    let piped = transcripts("README.md")
        .into_iter()
        .filter(|(command, _)| command.ends_with("| cat"));
    let mut checked = 0;
    for (command, shown) in piped {
        let output = shell(&space, &command, &server.address, &[]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), shown, "{command}");
        checked += 1;
    }
    assert_eq!(checked, 2);
}

#[test]
fn the_commands_print_what_the_document_shows() {
    let space = space_with("pipelines.example.yml");
    let server = space.serve();
    let run = |script: &str| shell(&space, script, &server.address, &[]);
    for _ in 0..2 {
        check(&run("prunner schedule release --var release=42 --wait"), 0, "");
    }
    let listed = check(&run("prunner jobs --limit 1"), 0, "");
    let id = listed.lines().nth(1).unwrap().split(' ').next().unwrap();
    let transcripts = transcripts("docs/command-line.md");
    let shown_id = transcripts
        .iter()
        .find_map(|(command, _)| command.strip_prefix("prunner job "))
        .unwrap();
    // The ids that are shown, and what they are here.
    let mut ids = vec![(shown_id.to_owned(), id.to_owned())];
    let mut job = String::new();
    for (command, shown) in &transcripts {
        if command.contains("jq ") && !is_there("jq") {
            say_skipped("jq", "nobody has looked at what `export` prints");
            continue;
        }
        if let Some(assignment) = command.strip_suffix("; prunner wait \"$job\"") {
            job = format!("{assignment}; prunner wait \"$job\" 2>/dev/null; ");
        }
        let command = ids
            .iter()
            .fold(command.clone(), |command, (shown, id)| command.replace(shown, id));
        let script = if command.contains("\"$job\"") && !command.starts_with("job=") {
            format!("{job}{{ {command}; }} 2>&1")
        } else {
            format!("{{ {command}; }} 2>&1")
        };
        let output = run(&script);
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed = printed.replace(&server.address, "localhost:9009");
        assert_eq!(plain(&printed), plain(shown), "{command}");
        if is_id(shown.trim_end()) {
            ids.push((shown.trim_end().to_owned(), printed.trim_end().to_owned()));
        }
    }
    assert!(transcripts.len() > 20, "{transcripts:?}");
}

/// The commands that the help lists.
fn commands(space: &TestSpace) -> Vec<String> {
    let help = String::from_utf8(space.run(&["--help"]).stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn each_command_has_an_example_with_what_it_prints() {
    let space = TestSpace::new("pipelines: {}");
    let commands = commands(&space);
    assert!(commands.len() > 15, "{commands:?}");
    let examples: Vec<String> = ["README.md", "docs/command-line.md"]
        .into_iter()
        .flat_map(transcripts)
        .map(|(command, _)| command)
        .collect();
    for command in commands {
        let is_it = |example: &String| {
            let mut words = example.split_ascii_whitespace();
            words.any(|word| word == command) && example.contains("prunner ")
        };
        // `make run` serves.
        let is_shown = examples.iter().any(is_it) || command == "serve" && examples.contains(&"make run".to_owned());
        assert!(is_shown, "`{command}` has no example");
    }
}

#[test]
fn flags_have_the_variables_and_the_defaults_that_the_document_names() {
    let space = TestSpace::new("pipelines: {}");
    let help = String::from_utf8(space.run(&["serve", "--help"]).stdout).unwrap();
    let (_, flags) = help.split_once("Flags, before or behind the command:\n").unwrap();
    let flags = flags.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let document = read("docs/command-line.md");
    let rows = document.lines().filter(|line| line.contains(" | `PRUNNER_"));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let flag = cells[1].split('`').nth(1).unwrap();
        let [variable, default] = [cells[2], cells[3]].map(|cell| cell.trim_matches('`'));
        let (_, described) = flags.split_once(flag).unwrap();
        let (described, _) = described.split_once(" --").unwrap_or((described, ""));
        assert!(described.contains(&format!("[env: {variable}]")), "{row}: {described}");
        match default {
            "" | "false" => assert!(!described.contains("[default: "), "{row}: {described}"),
            _ => assert!(
                described.contains(&format!("[default: {default}]")),
                "{row}: {described}"
            ),
        }
        checked += 1;
    }
    assert_eq!(checked, 17);
}

/// The lines of a job, in the order in which they are shown where tasks run one after the other; where two run at the same
/// time, from the start of `test` to the end of its sleep, in an order of their own.
fn in_order(text: &str) -> Vec<String> {
    let plain = plain(text);
    let mut lines: Vec<String> = plain.lines().map(str::to_owned).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let place = |part: &str| lines.iter().position(|line| line.ends_with(part)).unwrap();
    let both = place(" test started")..place("| tested");
    lines[both].sort();
    lines
}

#[test]
fn what_a_terminal_shows_is_what_the_readme_shows() {
    let space = space_with("pipelines.example.yml");
    space.write("pipelines.example.yml", &read("pipelines.example.yml"));
    let server = space.serve();
    let path = std::env::var("PATH").unwrap();
    let at_terminals = transcripts("README.md")
        .into_iter()
        .filter(|(command, _)| command.starts_with("prunner ") && !command.ends_with("| cat"));
    let mut checked = 0;
    for (command, shown) in at_terminals {
        let mut started = space.command_by(Command::new("sh"), &["-c", &command]);
        started
            .env("PATH", format!("{}:{path}", space.path.join("bin").display()))
            .env("PRUNNER_ADDRESS", &server.address)
            .envs([("TERM", "xterm"), ("LANG", "C.UTF-8")]);
        let mut terminal = Terminal::start(&started);
        // The last line, as the README describes it.
        terminal.read_until("2/5 done, running: test ");
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(0), "{seen}");
        // Wide enough for its longest line.
        let screen = picture(seen.as_bytes(), &[(0, 200)]);
        assert_eq!(in_order(&screen.join("\n")), in_order(&shown), "{command}");
        checked += 1;
    }
    assert_eq!(checked, 2);
}

#[test]
fn a_server_begins_at_a_terminal_as_the_readme_shows() {
    let space = space_with("pipelines.example.yml");
    space.write("pipelines.example.yml", &read("pipelines.example.yml"));
    let (_, shown) = transcripts("README.md").remove(0);
    let arguments = ["--pattern", "pipelines.example.yml", "--address", "127.0.0.1:0"];
    let mut starter = space.command(&arguments);
    starter.envs([("TERM", "xterm"), ("LANG", "C.UTF-8")]);
    let mut terminal = Terminal::start(&starter);
    terminal.read_until("serving");
    terminal.read_until("version=");
    // Ctrl-C.
    terminal.press("\u{3}");
    let (seen, status) = terminal.end();
    assert_eq!(status, Some(0), "{seen}");
    let screen = picture(seen.as_bytes(), &[(0, 200)]).join("\n");
    let without_port = |text: &str| {
        let (before, rest) = text.split_once("address=127.0.0.1:").unwrap();
        format!(
            "{before}{}",
            rest.trim_start_matches(|digit: char| digit.is_ascii_digit())
        )
    };
    let (seen, shown) = (without_port(&plain(&screen)), without_port(&plain(&shown)));
    assert!(seen.starts_with(&shown), "{seen}\nis not what is shown:\n{shown}");
}

#[test]
fn the_commands_run_as_written() {
    let space = space_with("pipelines.example.yml");
    let server = space.serve();
    let block = block("README.md", "prunner logs -f \"$job\"");
    let text = check(&shell(&space, &block, &server.address, &[]), 0, "hello, building 42\n");
    assert!(text.contains("of pipeline `release` succeeded"), "{text}");
}

#[test]
fn the_makefile_deploys_as_written() {
    let (space, server) = site();
    space.write("Makefile", &block("README.md", "export RELEASE"));
    let deploy = |release: &str| shell(&space, &format!("make deploy RELEASE={release}"), &server.address, &[]);
    check(&deploy("42"), 0, "");
    assert_eq!(
        fs::read_link(space.path.join("live/current")).unwrap(),
        Path::new("releases/42")
    );
    space.write("site/index.html", "");
    check(&deploy("43"), 2, "site/index.html is missing or empty");
}

#[test]
fn the_script_deploys_as_written_and_tells_of_a_failure() {
    let (space, server) = site();
    let script = block("README.md", "if job=$(prunner schedule deploy");
    check(&shell(&space, &script, &server.address, &[]), 0, "release 42 is live\n");
    fs::remove_dir_all(space.path.join("live")).unwrap();
    // No directory can be made there.
    space.write("live", "");
    check(&shell(&space, &script, &server.address, &[]), 1, "mkdir: ");
}

#[test]
fn the_lines_for_ci_run_as_written() {
    let space = space_with("pipelines.example.yml");
    let commit = [("COMMIT", "4f2a")];
    let output = shell(&space, &block("README.md", "--data build/prunner"), "", &commit);
    check(&output, 0, "hello, building 4f2a\n");
    assert!(space.read("build/prunner/journal.jsonl").contains("4f2a"));
    if !is_there("jq") {
        return say_skipped("jq", "nobody has read the events as the README does");
    }
    let output = shell(&space, &block("README.md", "--json > build/events.jsonl"), "", &commit);
    check(&output, 0, "build: done\n");
}

#[test]
fn a_backup_is_made_and_the_way_back_is_gone_as_written() {
    let space = space_with("examples/pipelines.yml");
    space.write("site/index.html", "hello\n");
    let server = space.serve();
    let job = check(
        &shell(&space, "prunner schedule verify --wait", &server.address, &[]),
        0,
        "",
    );
    let job = job.lines().next().unwrap();

    let output = shell(&space, &block("docs/operating.md", "tar -czf backup.tar.gz"), "", &[]);
    check(&output, 0, "");
    check(
        &shell(&space, &block("docs/operating.md", "mkdir restored"), "", &[]),
        0,
        "",
    );
    assert!(space.read("jobs.json").contains(job));
    assert_eq!(space.read("restored/.prunner.yml"), space.read(".prunner.yml"));

    let back = block("docs/operating.md", "mv old.json");
    check(&shell(&space, &back, "", &[]), 3, "is in use by process");
    assert_eq!(space.read(".prunner/data.json"), "");
    send_signal("INT", &server.pid().to_string());
    let mut server = server;
    assert_eq!(server.end(), Some(0));
    check(&shell(&space, &back, "", &[]), 0, "");
    assert!(space.read(".prunner/data.json").contains(job));

    // And forth again, once the journal is out of the way.
    fs::rename(
        space.path.join(".prunner/journal.jsonl"),
        space.path.join("journal.jsonl"),
    )
    .unwrap();
    let server = space.serve();
    assert_eq!(server.job(job)["status"], "succeeded");
    assert!(
        server.log().contains("took over 1 jobs of the old server"),
        "{}",
        server.log()
    );
}

#[test]
fn the_limits_are_taken_as_written() {
    let space = space_with("examples/pipelines.yml");
    let line = block("docs/operating.md", "--retention-period 30d --retention-count");
    let flags = line.trim_end().strip_prefix("prunner ").unwrap();
    let arguments = flags.split(' ').chain(["--address", "127.0.0.1:0"]);
    let server = space.serve_with(&arguments.collect::<Vec<_>>(), &[]);
    assert_eq!(server.stop(), Some(0));
}
