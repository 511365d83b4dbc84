//! Damaged and strange files in the data directory, as the real binary meets them.
//!
//! The store's own tests go through every byte; here is one case of each kind, with what the server says and does.

use std::fs;
use std::ops::Range;

use crate::space::{TestSpace, eventually, is_alive};

/// One job has succeeded, one runs, two wait.
const PIPELINES: &str = r#"
pipelines:
  list:
    tasks:
      a:
        script:
          - echo "$PRUNNER_JOB_ID" >> ran
          - until ! test -e first; do sleep 0.02; done
          - if test "$(cat gate 2>&1)" = "$PRUNNER_JOB_ID"; then rm gate; echo $$ > pid; exec sleep 1000; fi
"#;

/// What a server that was killed left behind.
struct Left {
    space: TestSpace,
    journal: Vec<u8>,
    ran: String,
    ids: Vec<String>,
}

impl Left {
    fn new() -> Left {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        space.write("first", "");
        // The others wait, so that a line of its own says that the second starts.
        let ids: Vec<String> = (0..4).map(|_| server.schedule("list")).collect();
        space.write("gate", &ids[1]);
        fs::remove_file(space.path.join("first")).unwrap();
        space.first_line("pid");
        assert_eq!(server.ended(&ids[0])["status"], "succeeded");
        server.kill();
        Left {
            journal: fs::read(space.path.join(".prunner/journal.jsonl")).unwrap(),
            ran: space.read("ran"),
            space,
            ids,
        }
    }

    /// Where the first line that holds `part` is.
    fn line(&self, part: &str) -> Range<usize> {
        let text = String::from_utf8_lossy(&self.journal);
        let found = text.find(part).unwrap();
        let start = text[..found].rfind('\n').map_or(0, |newline| newline + 1);
        start..found + text[found..].find('\n').unwrap() + 1
    }

    /// Starts on `journal`; what becomes of the four, a letter each, `-` where a job is not known; files that are kept
    /// as damaged.
    #[track_caller]
    fn check(&self, name: &str, journal: &[u8], expected: &str, damaged: usize, log: &str) {
        let data = self.space.path.join(".prunner");
        for entry in fs::read_dir(&data).unwrap().flatten() {
            if entry.file_name() != "logs" && entry.file_name() != "journal.jsonl.new" {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        fs::write(data.join("journal.jsonl"), journal).unwrap();
        self.space.write("ran", &self.ran);
        let server = self.space.serve();
        let found: String = self
            .ids
            .iter()
            .map(|id| {
                let answer = server.get(&format!("/job/detail?id={id}"));
                if answer.status == 404 {
                    return '-';
                }
                server.ended(id)["status"].as_str().unwrap().chars().next().unwrap()
            })
            .collect();
        assert_eq!(found, expected, "{name}: {}", server.log());
        assert!(server.log().contains(log), "{name}: `{log}` is not in {}", server.log());
        assert_eq!(server.request("GET", "/health", "", "").status, 200, "{name}");
        assert!(!data.join("journal.jsonl.new").exists(), "{name}");
        let next = server.schedule("list");
        assert_eq!(server.ended(&next)["status"], "succeeded", "{name}");
        assert_eq!(server.stop(), Some(0), "{name}");
        let kept: Vec<_> = fs::read_dir(&data)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-"))
            .collect();
        assert_eq!(kept.len(), damaged, "{name}");
        if let [kept] = &kept[..] {
            assert!(fs::read(kept.path()).unwrap() == journal, "{name}: it is not as it was");
        }
        let ran = self.space.read("ran");
        for id in &self.ids {
            assert!(ran.matches(id.as_str()).count() <= 1, "{name}: it ran twice:\n{ran}");
        }
    }
}

#[test]
fn damaged_journals_cost_no_more_than_what_is_damaged() {
    let left = Left::new();
    let whole = &left.journal;
    let without = |range: Range<usize>| [&whole[..range.start], &whole[range.end..]].concat();
    left.check("whole", whole, "siss", 0, "serving");
    assert!(!is_alive(&left.space.first_line("pid")));
    left.check("empty", b"", "----", 0, "serving");
    let mut cut = whole.clone();
    cut.extend_from_slice(&whole[left.line(&left.ids[3])][..30]);
    left.check(
        "half a line",
        &cut,
        "siss",
        0,
        "cut off 30 bytes behind the last whole line",
    );
    let rubbish = [&whole[..], &b"\x00\xfe\x07rubbish\n"[..]].concat();
    left.check("rubbish behind", &rubbish, "siss", 1, "the damaged file is kept");
    let rubbish = [&b"\x00\xfe\x07rubbish\n"[..], whole].concat();
    left.check(
        "rubbish before",
        &rubbish,
        "siss",
        1,
        "1 damaged lines, the first is line 1",
    );
    let zeros = [&whole[..], &[0; 4096]].concat();
    left.check(
        "zeros behind",
        &zeros,
        "siii",
        1,
        "2 jobs that seem to wait may have run",
    );
    left.check("nothing but zeros", &[0; 4096], "----", 1, "the damaged file is kept");

    // The start of the second is damaged, and nothing behind it names the job; nor are there logs of it.
    let start = left.line(&format!("{{\"start\":{{\"job\":\"{}", left.ids[1]));
    for place in [0, 12, 30, 70] {
        let mut damaged = whole[..start.end].to_vec();
        damaged[start.start + place] ^= 1;
        left.check("a start", &damaged, "siss", 1, "may have run");
    }
    let job = left.line(&left.ids[2]);
    let mut damaged = whole.clone();
    damaged[job.start + 20] ^= 1;
    left.check("a job", &damaged, "si-s", 1, "1 damaged lines");
    left.check("a line is missing", &without(job), "si-s", 0, "serving");

    let payload = br#"{"future":{"x":1}}"#;
    let unknown = format!(
        "{:08x} {}\n",
        crc32fast::hash(payload),
        String::from_utf8_lossy(payload)
    );
    let longer = [unknown.as_bytes(), whole].concat();
    left.check(
        "an unknown kind",
        &longer,
        "siss",
        0,
        "kept 1 lines of the kind `future`",
    );
    assert!(left.space.read(".prunner/journal.jsonl").contains(&unknown));
    left.space.write(".prunner/journal.jsonl.new", "half of a new jour");
    left.check("half a new journal", whole, "siss", 0, "serving");
}

#[test]
fn an_old_file_that_is_damaged_is_kept_and_the_rest_used() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['true']}}}}");
    let id = "11111111-1111-4111-8111-111111111111";
    let whole = format!(
        r#"{{"Jobs":[{{"ID":"{id}","Pipeline":"p","Created":"2026-11-24T03:00:00Z"}},{{"ID":"no id","Pipeline":"p"}}]}}"#
    );
    for (text, is_there) in [
        (&whole[..], true),
        (&whole[..whole.len() / 2], false),
        ("\0\0\0", false),
    ] {
        let _ = fs::remove_dir_all(space.path.join(".prunner"));
        space.write(".prunner/data.json", text);
        let server = space.serve();
        assert_eq!(
            server.get(&format!("/job/detail?id={id}")).status == 200,
            is_there,
            "{text}"
        );
        assert!(
            server.log().contains("the damaged file is kept"),
            "{text}: {}",
            server.log()
        );
        assert_eq!(server.stop(), Some(0));
        let kept = eventually("a file that is kept", || {
            let files = fs::read_dir(space.path.join(".prunner")).unwrap().flatten();
            files
                .map(|file| file.path())
                .find(|path| path.to_string_lossy().contains("data.json.damaged-"))
        });
        assert_eq!(fs::read_to_string(kept).unwrap(), text);
        assert_eq!(space.read(".prunner/data.json"), text);
    }
}

#[test]
fn what_cannot_be_read_stops_the_start_with_its_name() {
    let space = TestSpace::new("pipelines: {}");
    fs::create_dir_all(space.path.join(".prunner/journal.jsonl")).unwrap();
    let output = space.run(&["--address", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("failed to read the state in `") && text.contains("/.prunner`: is a directory"),
        "{text}"
    );
}
