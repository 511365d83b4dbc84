//! Who is let in, and what the others are told.

use std::time::{SystemTime, UNIX_EPOCH};

use jwt_simple::algorithms::{HS256Key, HS512Key, MACLike};
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use serde_json::{Value, json};

use crate::space::{Answer, Server, TestSpace, eventually};

const SECRET: &str = "a secret that only the tests know";
const OTHER_SECRET: &str = "a secret that the server has never seen";
const TARGET: &str = "/pipelines/";

pub(super) fn serve() -> (TestSpace, Server) {
    serve_pipelines("pipelines: {quick: {tasks: {a: {script: ['true']}}}}")
}

/// A server whose secret is known.
pub(super) fn serve_pipelines(pipelines: &str) -> (TestSpace, Server) {
    let space = TestSpace::new(pipelines);
    space.write(".prunner.yml", &format!("jwt_secret: {SECRET}\n"));
    let server = space.serve();
    (space, server)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

fn signed_by(header: &Value, claims: &Value, tag: impl Fn(&str) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(tag(&signed));
    format!("{signed}.{signature}")
}

fn hs256(secret: &str) -> impl Fn(&str) -> Vec<u8> {
    let key = HS256Key::from_bytes(secret.as_bytes());
    move |signed| key.authentication_tag(signed.as_bytes())
}

fn hs512(secret: &str) -> impl Fn(&str) -> Vec<u8> {
    let key = HS512Key::from_bytes(secret.as_bytes());
    move |signed| key.authentication_tag(signed.as_bytes())
}

/// A token with the server's secret.
pub(super) fn token(claims: &Value) -> String {
    signed_by(&json!({"alg": "HS256", "typ": "JWT"}), claims, hs256(SECRET))
}

pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[expect(clippy::cast_possible_truncation, reason = "the time fits for a long while")]
fn now_whole() -> i64 {
    now() as i64
}

fn ask(server: &Server, claims: &Value) -> Answer {
    server.request("GET", TARGET, &bearer(&token(claims)), "")
}

#[track_caller]
fn check_accepted(server: &Server, headers: &str) {
    let answer = server.request("GET", TARGET, headers, "");
    assert_eq!(answer.status, 200, "{headers}: {answer:?}");
}

#[track_caller]
fn check_refused(answer: &Answer, text: &str, challenge: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (401, text), "{answer:?}");
    assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("WWW-Authenticate"), challenge);
}

#[track_caller]
fn check_no_token(answer: &Answer) {
    check_refused(answer, "no token found", "Bearer");
}

/// A token was there, but is none that counts.
#[track_caller]
fn check_bad_token(answer: &Answer, text: &str) {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{text}\"");
    check_refused(answer, text, &challenge);
}

#[test]
fn the_scheme_is_bearer_in_any_case() {
    let (_space, server) = serve();
    let token = token(&json!({}));
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        check_accepted(&server, &format!("Authorization: {scheme} {token}\r\n"));
    }
    check_accepted(&server, &format!("authorization: Bearer {token}\r\n"));
    check_accepted(&server, &format!("AUTHORIZATION: Bearer {token}\r\n"));
}

#[test]
fn without_the_scheme_no_token_is_found() {
    let (_space, server) = serve();
    let token = token(&json!({}));
    let basic = encode("anna:secret");
    for headers in [
        String::new(),
        "Authorization:\r\n".to_owned(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Basic {basic}\r\n"),
        format!("Authorization: Token {token}\r\n"),
        format!("Authorization: Bearer{token}\r\n"),
        format!("X-Authorization: Bearer {token}\r\n"),
        format!("Proxy-Authorization: Bearer {token}\r\n"),
    ] {
        check_no_token(&server.without_token("GET", TARGET, &headers));
    }
}

#[test]
fn neither_a_cookie_nor_the_query_is_looked_at() {
    let (_space, server) = serve();
    let token = token(&json!({}));
    for name in ["jwt", "token", "Authorization"] {
        check_no_token(&server.without_token("GET", TARGET, &format!("Cookie: {name}={token}\r\n")));
    }
    for name in ["jwt", "token", "access_token", "authorization", "bearer"] {
        check_no_token(&server.without_token("GET", &format!("{TARGET}?{name}={token}"), ""));
        check_no_token(&server.without_token("GET", &format!("{TARGET}?{name}=Bearer%20{token}"), ""));
    }
}

#[test]
fn every_other_algorithm_is_refused() {
    let (_space, server) = serve();
    let claims = json!({"sub": "anna"});
    let header = |algorithm: &str| json!({"alg": algorithm, "typ": "JWT"});
    let hs512 = || hs512(SECRET);
    for token in [
        signed_by(&header("none"), &claims, |_| Vec::new()),
        signed_by(&header("none"), &claims, hs256(SECRET)),
        signed_by(&header("NONE"), &claims, |_| Vec::new()),
        signed_by(&header("HS512"), &claims, hs512()),
        signed_by(&header("HS256"), &claims, hs512()),
        signed_by(&header("HS512"), &claims, hs256(SECRET)),
        signed_by(&header("HS384"), &claims, hs256(SECRET)),
        signed_by(&header("RS256"), &claims, hs256(SECRET)),
        signed_by(&header("RS256"), &claims, |_| vec![7; 256]),
        signed_by(&header("hs256"), &claims, hs256(SECRET)),
        signed_by(&json!({"typ": "JWT"}), &claims, hs256(SECRET)),
        signed_by(&json!({"alg": null}), &claims, hs256(SECRET)),
        signed_by(&json!({"alg": ["HS256"]}), &claims, hs256(SECRET)),
    ] {
        let answer = server.request("GET", TARGET, &bearer(&token), "");
        check_bad_token(&answer, "token is unauthorized");
    }
    check_accepted(
        &server,
        &bearer(&signed_by(&json!({"alg": "HS256"}), &claims, hs256(SECRET))),
    );
}

#[test]
fn a_bad_form_or_signature_is_refused() {
    let (_space, server) = serve();
    let good = token(&json!({"sub": "anna"}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let other_claims = encode(json!({"sub": "root"}).to_string());
    let by_other = signed_by(&json!({"alg": "HS256"}), &json!({"sub": "anna"}), hs256(OTHER_SECRET));
    let sign = |signed: String| format!("{signed}.{}", encode(hs256(SECRET)(&signed)));
    for token in [
        "a".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "..".to_owned(),
        by_other,
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.{}", &signature[..42]),
        format!("{signed}.{signature}A"),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}.{signature}"),
        format!("{header}.{other_claims}.{signature}"),
        format!("{good} more"),
        sign(format!("{header}.{}", encode("no JSON"))),
        sign(format!("{header}.{}", encode("[]"))),
        sign(format!("{header}.{}", encode("\"anna\""))),
        sign(format!("{}.{claims}", encode("no JSON"))),
        sign("a.b".to_owned()),
        sign("a".to_owned()),
    ] {
        let answer = server.request("GET", TARGET, &bearer(&token), "");
        check_bad_token(&answer, "token is unauthorized");
    }
    check_accepted(&server, &bearer(&good));
}

#[test]
fn times_are_checked_if_present() {
    let (_space, server) = serve();
    let now = now_whole();
    for claims in [
        json!({}),
        json!({"exp": now + 100, "nbf": now - 100, "iat": now - 100}),
        json!({"exp": now + 100}),
        json!({"nbf": now}),
        json!({"iat": now}),
        json!({"exp": self::now() + 100.25, "nbf": self::now() - 100.25, "iat": self::now() - 100.25}),
        json!({"exp": 1e300, "nbf": -1e300, "iat": -5}),
    ] {
        let answer = ask(&server, &claims);
        assert_eq!(answer.status, 200, "{claims}: {answer:?}");
    }
    for (claim, time, text) in [
        ("exp", json!(now - 100), "token is expired"),
        ("exp", json!(now), "token is expired"),
        ("exp", json!(self::now() - 0.25), "token is expired"),
        ("exp", json!(0), "token is expired"),
        ("nbf", json!(now + 100), "token nbf validation failed"),
        ("nbf", json!(self::now() + 100.25), "token nbf validation failed"),
        ("iat", json!(now + 100), "token iat validation failed"),
        ("iat", json!(self::now() + 100.25), "token iat validation failed"),
    ] {
        check_bad_token(&ask(&server, &json!({"sub": "anna", claim: time})), text);
    }
}

#[test]
fn times_of_another_type_are_refused() {
    let (_space, server) = serve();
    let soon = (now_whole() + 100).to_string();
    for claim in ["exp", "nbf", "iat"] {
        for time in [json!(soon), json!(null), json!(true), json!([1]), json!({}), json!("")] {
            check_bad_token(&ask(&server, &json!({claim: time})), "token is unauthorized");
        }
    }
}

#[test]
fn times_are_checked_without_leeway() {
    let (_space, server) = serve();
    // Both requests are asked until the moment has passed: neither may change its mind earlier, nor much later.
    let moment = now() + 0.3;
    let (early, late) = (json!({"nbf": moment}), json!({"exp": moment}));
    eventually("the moment comes", || {
        let asked = now();
        let statuses = (ask(&server, &early).status, ask(&server, &late).status);
        let answered = now();
        // The server counts milliseconds.
        if answered < moment {
            assert_eq!(statuses, (401, 200));
        }
        if asked > moment + 0.002 {
            assert_eq!(statuses, (200, 401));
        }
        (asked > moment + 0.002).then_some(())
    });
}

#[test]
fn sub_is_the_user_of_a_job() {
    let (_space, server) = serve();
    for (claims, user) in [
        (json!({"sub": "ben"}), "ben"),
        (json!({"sub": "Jörg Müller"}), "Jörg Müller"),
        (json!({"sub": ""}), ""),
        (json!({"name": "ben"}), ""),
    ] {
        let headers = bearer(&token(&claims));
        let answer = server.request("POST", "/pipelines/schedule", &headers, r#"{"pipeline": "quick"}"#);
        assert_eq!(answer.status, 202, "{answer:?}");
        let job = server.ended(answer.json()["jobId"].as_str().unwrap());
        assert_eq!(job["user"], user, "{job}");
    }
}
