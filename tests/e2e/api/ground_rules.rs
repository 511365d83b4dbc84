//! What holds for every route.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Connection, UNKNOWN, is_time};
use crate::checks::check_error;
use crate::space::{Answer, Server, TestSpace, eventually};

const QUICK: &str = "pipelines: {quick: {tasks: {a: {script: ['echo a']}}}}";

const GET_PATHS: [&str; 6] = [
    "/pipelines/",
    "/pipelines",
    "/pipelines/jobs",
    "/job/detail",
    "/job/logs",
    "/job/log",
];
const POST_PATHS: [&str; 3] = ["/pipelines/schedule", "/pipelines/reload", "/job/cancel"];

fn request_line(server: &Server, method: &str, target: &str, headers: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: e2e\r\n{}{headers}\r\n",
        server.authorization()
    )
}

#[test]
fn what_is_not_text_is_json_in_utf8() {
    let space = TestSpace::new("pipelines: {größe: {tasks: {a: {script: ['echo ä']}}}}");
    let server = space.serve();
    let request = json!({"pipeline": "größe", "variables": {"名": "\u{1F600} ü"}, "queuePartition": "é"});
    let id = server.accepted(&request);
    let job = server.ended(&id);
    assert_eq!(
        [&job["pipeline"], &job["variables"]["名"], &job["queuePartition"]],
        ["größe", "\u{1F600} ü", "é"]
    );
    for target in [
        "/health".to_owned(),
        "/pipelines/".to_owned(),
        "/pipelines/jobs".to_owned(),
        format!("/job/detail?id={id}"),
        format!("/job/detail?id={id}&wait=1s"),
        format!("/job/logs?id={id}&task=a"),
    ] {
        let answer = server.get(&target);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, "application/json")
        );
        answer.json();
    }
    let schedule = server.post("/pipelines/schedule", r#"{"pipeline": "gr\u00f6\u00dfe"}"#);
    assert_eq!(
        (schedule.status, schedule.header("Content-Type")),
        (202, "application/json")
    );
    let reload = server.post("/pipelines/reload", "");
    assert_eq!(
        (reload.status, reload.header("Content-Type")),
        (200, "application/json")
    );
    server.ended(schedule.json()["jobId"].as_str().unwrap());
}

#[test]
fn the_content_type_of_a_request_is_not_looked_at() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for content_type in [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/json; charset=latin1\r\n",
        "Content-Type: ;;;\r\n",
    ] {
        let headers = server.authorization() + content_type;
        let answer = server.request("POST", "/pipelines/schedule", &headers, r#"{"pipeline": "quick"}"#);
        assert_eq!(answer.status, 202, "{content_type}: {answer:?}");
    }
}

#[test]
fn times_have_no_fraction_and_unset_ones_are_null() {
    let space =
        TestSpace::new("pipelines: {p: {tasks: {a: {script: [exec sleep 60]}, b: {depends_on: a, script: [b]}}}}");
    let server = space.serve();
    let (runs, waits) = (server.schedule("p"), server.schedule("p"));
    let job = eventually("it runs", || {
        let job = server.job(&runs);
        (job["tasks"][0]["status"] == "running").then_some(job)
    });
    assert!(is_time(&job["created"]) && is_time(&job["start"]), "{job}");
    assert!(is_time(&job["tasks"][0]["start"]), "{job}");
    let waiting = server.job(&waits);
    assert!(is_time(&waiting["created"]), "{waiting}");
    // `get` tells null from absent, as an index would not.
    let null = Some(&json!(null));
    assert_eq!([job.get("end"), waiting.get("start"), waiting.get("end")], [null; 3]);
    for (task, fields) in [
        (&job["tasks"][0], &["end"][..]),
        (&job["tasks"][1], &["start", "end"]),
        (&waiting["tasks"][0], &["start", "end"]),
    ] {
        for field in fields {
            assert_eq!(task.get(field), null, "{task}");
        }
    }
    server.cancel_job(&runs);
    let job = server.ended(&runs);
    assert!(is_time(&job["end"]) && is_time(&job["tasks"][0]["end"]), "{job}");
}

#[test]
fn without_a_token_every_path_but_the_open_ones_is_401() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let other_paths = ["/", "/nowhere", "/pipelines/jobs/", "/metric", "/health/"];
    for path in GET_PATHS.into_iter().chain(POST_PATHS).chain(other_paths) {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = server.without_token(method, path, "");
            let found = (answer.status, answer.body.as_str());
            assert_eq!(found, (401, "no token found"), "{method} {path}");
        }
    }
    assert_eq!(server.without_token("GET", "/health", "").status, 200);
    // Nor is a body asked for that is too large, or none at all.
    let mut connection = Connection::open(&server);
    connection.send("POST /pipelines/schedule HTTP/1.1\r\nHost: e2e\r\nContent-Length: 2000000\r\n\r\n");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.body.as_str()), (401, "no token found"));
}

#[test]
fn unknown_paths_are_404() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for path in [
        "/",
        "/nowhere",
        "/pipeline",
        "/pipelines//",
        "//pipelines",
        "/Pipelines",
        "/%70ipelines",
        "/pipelines/jobs/",
        "/pipelines/schedule/",
        "/pipelines/quick",
        "/job",
        "/job/",
        "/job/detail/",
        "/job/logs/",
        "/job/log/",
        "/job/cancel/",
        "/health/",
        "/./pipelines",
        "/pipelines/../pipelines",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            check_error(
                &server.request(method, path, &server.authorization(), ""),
                404,
                "not_found",
                "…",
            );
        }
    }
}

#[test]
fn a_wrong_method_is_405_with_the_right_ones() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let check = |method: &str, path: &str, allowed: &str| {
        let answer = server.request(method, path, &server.authorization(), "");
        check_error(&answer, 405, "method_not_allowed", "…");
        assert_eq!(answer.header("Allow"), allowed, "{method} {path}");
    };
    for path in GET_PATHS.into_iter().chain(["/health"]) {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"] {
            check(method, path, "GET, HEAD");
        }
    }
    for path in POST_PATHS {
        for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "post"] {
            check(method, path, "POST");
        }
        let answer = server.request("HEAD", path, &server.authorization(), "");
        let found = (answer.status, answer.header("Allow"), answer.body.as_str());
        assert_eq!(found, (405, "POST", ""), "{path}");
    }
}

#[test]
fn head_is_answered_where_get_is() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let id = server.schedule("quick");
    server.ended(&id);
    for target in [
        "/health".to_owned(),
        "/pipelines".to_owned(),
        "/pipelines/".to_owned(),
        "/pipelines/jobs".to_owned(),
        format!("/job/detail?id={id}"),
        format!("/job/logs?id={id}&task=a"),
        format!("/job/log?id={id}&task=a"),
        format!("/job/log?id={id}&task=a&follow=true"),
        format!("/job/detail?id={UNKNOWN}"),
        "/job/detail".to_owned(),
        "/nowhere".to_owned(),
    ] {
        let get = server.get(&target);
        let head = server.request("HEAD", &target, &server.authorization(), "");
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{target}");
        for name in [
            "Content-Type",
            "Content-Length",
            "Transfer-Encoding",
            "ETag",
            "Accept-Ranges",
        ] {
            assert_eq!(head.header(name), get.header(name), "{target}: {name}");
        }
    }
}

#[test]
fn a_trailing_slash_is_accepted_where_noted() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let answers = ["/pipelines", "/pipelines/"].map(|path| {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(server.get("/pipelines/jobs/").status, 404);
}

/// A request for a job with so many bytes.
fn request_of(length: usize) -> String {
    let start = r#"{"pipeline": "quick", "filler": ""#;
    format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
}

#[test]
fn a_body_over_1_mib_is_413() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let largest = server.post("/pipelines/schedule", &request_of(1 << 20));
    assert_eq!(largest.status, 202, "{largest:?}");
    let too_large = server.post("/pipelines/schedule", &request_of((1 << 20) + 1));
    check_error(&too_large, 413, "body_too_large", "…");

    // One that is only announced, and one whose length nobody said.
    let head = |framing: &str| request_line(&server, "POST", "/pipelines/schedule", framing);
    let mut announced = Connection::open(&server);
    announced.send(head("Content-Length: 99999999999999999999\r\n"));
    check_error(&announced.answer(), 413, "body_too_large", "…");
    let mut chunked = Connection::open(&server);
    chunked.send(head("Transfer-Encoding: chunked\r\n"));
    chunked.send(format!("100001\r\n{}", "x".repeat(0x10_0001)));
    check_error(&chunked.answer(), 413, "body_too_large", "…");
    let mut chunked = Connection::open(&server);
    chunked.send(head("Transfer-Encoding: chunked\r\n"));
    chunked.send("14\r\n{\"pipeline\": \"quick\"\r\n1\r\n}\r\n0\r\n\r\n");
    assert_eq!(chunked.answer().status, 202);
}

#[test]
fn a_head_over_16_kib_is_431() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let ask = |length: usize| -> Answer {
        let short = request_line(&server, "GET", "/pipelines/", "Filler: \r\n");
        let filler = format!("Filler: {}\r\n", "x".repeat(length - short.len()));
        let mut connection = Connection::open(&server);
        connection.send(request_line(&server, "GET", "/pipelines/", &filler));
        connection.answer()
    };
    let largest = ask(16 << 10);
    assert_eq!(largest.status, 200, "{largest:?}");
    check_error(&ask((16 << 10) + 1), 431, "head_too_large", "…");
    check_error(&ask(100 << 10), 431, "head_too_large", "…");
    // It need not end for that.
    let mut endless = Connection::open(&server);
    endless.send(format!("GET /{}", "x".repeat(16 << 10)));
    check_error(&endless.answer(), 431, "head_too_large", "…");
}

#[test]
fn a_head_that_does_not_come_whole_in_time_is_408() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let mut slow = Connection::open(&server);
    slow.send("GET /pipelines/ HTTP/1.1\r\nHost:");
    check_error(&slow.answer(), 408, "request_timeout", "…");
}

#[test]
fn what_is_not_http_is_400() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for request in [
        "rubbish\r\n\r\n",
        "GET /health\r\n\r\n",
        "GET /health HTTP/2.0\r\nHost: e2e\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: e2e\r\nno colon\r\n\r\n",
        "POST /health HTTP/1.1\r\nHost: e2e\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /health HTTP/1.1\r\nHost: e2e\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut connection = Connection::open(&server);
        connection.send(request);
        check_error(&connection.answer(), 400, "bad_request", "…");
        assert!(connection.has_ended(), "{request}");
    }
}

#[test]
fn a_broken_query_is_400() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for target in ["/job/detail?id=%", "/job/detail?id=%zz", "/pipelines/jobs?pipeline=%ff"] {
        check_error(&server.get(target), 400, "bad_request", "…");
    }
    // An escape is another way to write the same.
    let id = server.schedule("quick");
    let escaped: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(server.get(&format!("/job/detail?%69d={escaped}")).status, 200);
}

#[test]
fn a_body_is_one_json_value_and_nothing_behind_it() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let good = r#"{"pipeline": "quick"}"#;
    for body in [
        good.to_owned(),
        format!(" \r\n\t{good} \r\n\t"),
        r#"{"pipeline": "quick", "unknown": 1, "and": {"pipeline": 2}, "tasks": []}"#.to_owned(),
    ] {
        let answer = server.post("/pipelines/schedule", &body);
        assert_eq!(answer.status, 202, "{body}: {answer:?}");
    }
    for behind in ["{}", " x", ",", "]", "\0", " null", good] {
        let answer = server.post("/pipelines/schedule", &format!("{good}{behind}"));
        check_error(&answer, 400, "bad_json", "Error decoding JSON: …");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let body = r#"{"pipeline": "quick"}"#;
    let schedule = request_line(
        &server,
        "POST",
        "/pipelines/schedule",
        &format!("Content-Length: {}\r\n", body.len()),
    ) + body;
    let mut connection = Connection::open(&server);
    for _ in 0..3 {
        connection.send(request_line(&server, "GET", "/pipelines/", ""));
        assert_eq!(connection.answer().status, 200);
        connection.send(&schedule);
        assert_eq!(connection.answer().status, 202);
        // Refusals keep it too.
        connection.send(request_line(&server, "GET", "/nowhere", ""));
        assert_eq!(connection.answer().status, 404);
        connection.send(schedule.replacen("/schedule", "/nowhere", 1));
        assert_eq!(connection.answer().status, 404);
        connection.send("GET /pipelines/ HTTP/1.1\r\nHost: e2e\r\n\r\n");
        assert_eq!(connection.answer().status, 401);
    }
    // Several at once are answered in their order.
    connection
        .send(request_line(&server, "GET", "/nowhere", "") + &schedule + &request_line(&server, "GET", "/health", ""));
    assert_eq!([(); 3].map(|()| connection.answer().status), [404, 202, 200]);
    connection.send(request_line(&server, "GET", "/health", "Connection: close\r\n"));
    assert_eq!(connection.answer().status, 200);
    assert!(connection.has_ended());
}

#[test]
fn a_slow_or_silent_client_delays_no_other() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let mut others = Vec::new();
    for start in [
        String::new(),
        "GET /pipelines/ HTTP/1.1\r\nHo".to_owned(),
        request_line(&server, "POST", "/pipelines/schedule", "Content-Length: 100\r\n") + "{",
        request_line(&server, "POST", "/pipelines/schedule", "Transfer-Encoding: chunked\r\n") + "5",
        request_line(&server, "GET", &format!("/job/detail?id={UNKNOWN}&wait=60s"), ""),
    ] {
        for _ in 0..20 {
            let mut connection = Connection::open(&server);
            connection.send(&start);
            others.push(connection);
        }
    }
    // Far less than what the others are given.
    let good = thread::scope(|scope| {
        let good = scope.spawn(|| server.ended(&server.schedule("quick")));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        eventually("it is answered", || {
            assert!(std::time::Instant::now() < deadline, "the others delay it");
            good.is_finished().then_some(())
        });
        good.join().unwrap()
    });
    assert_eq!(good["status"], "succeeded");
    drop(others);
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let body = r#"{"pipeline": "quick"}"#;
    let head = |length: usize| {
        let headers = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
        request_line(&server, "POST", "/pipelines/schedule", &headers)
    };
    let mut connection = Connection::open(&server);
    connection.send(head(body.len()));
    assert_eq!(connection.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(body);
    assert_eq!(connection.answer().status, 202);
    // What is refused anyway is refused at once.
    connection.send(head(2 << 20));
    check_error(&connection.answer(), 413, "body_too_large", "…");
    let mut connection = Connection::open(&server);
    connection.send(head(body.len()).replacen("Authorization", "Nothing", 1));
    assert_eq!(connection.answer().status, 401);
}
