//! Tokens that are almost good: thousands of changes to one that is, and none passes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use jwt_simple::algorithms::{HS256Key, HS384Key, HS512Key, MACLike};

use crate::random::Random;
use crate::space::{Server, TestSpace};
use crate::{rounds, seed};

const SECRET: &str = "0123456789abcdef-torture";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &str = r#"{"sub":"anna~~~???","iat":1700000000}"#;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Headers with which even a good signature is none.
const HEADERS: [&str; 18] = [
    r#"{"alg":"none"}"#,
    r#"{"alg":"None"}"#,
    r#"{"alg":"nOnE","typ":"JWT"}"#,
    r#"{"alg":""}"#,
    r#"{"alg":null}"#,
    r#"{"alg":256}"#,
    r#"{"alg":["HS256"]}"#,
    r#"{"alg":"HS512","typ":"JWT"}"#,
    r#"{"alg":"RS256","typ":"JWT"}"#,
    r#"{"alg":"ES256","typ":"JWT"}"#,
    r#"{"alg":"hs256"}"#,
    r#"{"alg":"HS256\u0000"}"#,
    r#"{"alg":"HS256","crit":["exp"]}"#,
    r#"{"alg":"HS256","alg":"none"}"#,
    r#"{"Alg":"HS256"}"#,
    r#"["HS256"]"#,
    "{}",
    "",
];

/// Claims with which even a good signature is none.
const BAD_CLAIMS: [&str; 24] = [
    r#"{"exp":1700000000}"#,
    r#"{"exp":0}"#,
    r#"{"exp":-1e300}"#,
    r#"{"exp":"9999999999"}"#,
    r#"{"exp":null}"#,
    r#"{"exp":[9999999999]}"#,
    r#"{"exp":{"$serde_json::private::Number":"9999999999"}}"#,
    r#"{"exp":true}"#,
    r#"{"exp":1,"exp":9999999999}"#,
    r#"{"exp":9999999999,"\u0065xp":9999999999}"#,
    r#"{"exp":NaN}"#,
    r#"{"exp":9999999999"#,
    r#"{"nbf":9999999999}"#,
    r#"{"nbf":1e999}"#,
    r#"{"nbf":"0"}"#,
    r#"{"iat":9999999999}"#,
    r#"{"iat":{}}"#,
    r#"{"sub":7}"#,
    r#"{"sub":null}"#,
    r#"{"sub":["anna"]}"#,
    r#"{"sub":"\ud800"}"#,
    r#"[{"sub":"anna"}]"#,
    "null",
    "",
];

/// Inserted anywhere, each makes a token another one. Line ends and NUL make the whole request another one.
const STRANGE: [&str; 16] = [
    "ä", "\u{202e}", "\u{feff}", "🦀", "\u{0}", "\r", "\n", "\t", " ", "=", "==", "+", "/", "%2e", ".", ",",
];

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let bits = piece.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - piece.len()));
        for place in 0..=piece.len() {
            text.push(char::from(ALPHABET[bits >> (18 - 6 * place) & 63]));
        }
    }
    text
}

fn key() -> HS256Key {
    HS256Key::from_bytes(SECRET.as_bytes())
}

fn sign_by(key: &impl MACLike, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let tag = key.authentication_tag(signed.as_bytes());
    format!("{signed}.{}", encode(&tag))
}

fn sign(header: &str, claims: &str) -> String {
    sign_by(&key(), header, claims)
}

/// A place in the text where a character begins; the end too.
fn place(random: &mut Random, text: &str) -> usize {
    let mut place = random.below(text.len() + 1);
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}

/// What is to stand behind `Authorization: `, never what is good.
fn mutation(random: &mut Random, good: &str) -> Vec<u8> {
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let token = match random.below(16) {
        0 => sign(random.pick(&HEADERS), CLAIMS),
        1 => {
            let unsigned = format!("{}.{claims}.", encode(random.pick(&HEADERS).as_bytes()));
            if random.chance(1, 2) {
                unsigned
            } else {
                unsigned + signature
            }
        }
        2 => sign(HEADER, random.pick(&BAD_CLAIMS)),
        3 => {
            let secret = SECRET.as_bytes();
            match random.below(4) {
                0 => sign_by(&HS512Key::from_bytes(secret), r#"{"alg":"HS512"}"#, CLAIMS),
                1 => sign_by(&HS512Key::from_bytes(secret), HEADER, CLAIMS),
                2 => sign_by(&HS384Key::from_bytes(secret), HEADER, CLAIMS),
                _ => sign_by(
                    &HS256Key::from_bytes(&secret[..random.below(secret.len())]),
                    HEADER,
                    CLAIMS,
                ),
            }
        }
        4 => {
            let tag = key().authentication_tag(format!("{header}.{claims}").as_bytes());
            let mut tag = tag;
            let bit = random.below(tag.len() * 8);
            tag[bit / 8] ^= 1 << (bit % 8);
            format!("{header}.{claims}.{}", encode(&tag))
        }
        5 => {
            let tag = key().authentication_tag(format!("{header}.{claims}").as_bytes());
            format!("{header}.{claims}.{}", encode(&tag[..random.below(32)]))
        }
        6 => good[..random.below(good.len())].to_owned(),
        7 => good[random.below(good.len()) + 1..].to_owned(),
        8 => {
            let mut bytes = good.to_owned().into_bytes();
            let place = random.below(bytes.len());
            bytes[place] = random.pick(ALPHABET);
            String::from_utf8(bytes).unwrap()
        }
        9 => {
            let (mut text, strange) = (good.to_owned(), random.pick(&STRANGE));
            let place = place(random, &text);
            text.insert_str(place, strange);
            text
        }
        10 => {
            let mut text = good.to_owned();
            text.remove(random.below(good.len()));
            text
        }
        // The usual alphabet, and padding.
        11 => good.replace('-', "+").replace('_', "/"),
        12 => format!(
            "{header}{}.{claims}{}.{signature}{}",
            "=".repeat(random.below(3)),
            "=".repeat(random.below(3)),
            "=".repeat(random.below(3))
        ),
        13 => {
            let other = sign(HEADER, &format!(r#"{{"sub":"{}"}}"#, random.below(1000)));
            let other: Vec<&str> = other.split('.').collect();
            match random.below(3) {
                0 => format!("{header}.{}.{signature}", other[1]),
                1 => format!("{header}.{claims}.{}", other[2]),
                _ => format!("{header}.{claims}.{signature}.{}", other[2]),
            }
        }
        14 => {
            let many = 1 << random.below(14);
            match random.below(4) {
                0 => ".".repeat(many),
                1 => format!("{good}{}", "A".repeat(many)),
                2 => format!("{}.{claims}.{signature}", encode("[".repeat(many / 2).as_bytes())),
                _ => sign(HEADER, &r#"{"sub":"#.repeat(many / 16 + 1)),
            }
        }
        _ => {
            let schemes = [
                "Basic ",
                "Bearer",
                "JWT ",
                "Bearer: ",
                "Bearer Bearer ",
                "\"Bearer\" ",
                "Bearer\u{a0}",
                "",
            ];
            return format!("{}{good}", random.pick(&schemes)).into_bytes();
        }
    };
    // Some of these changes change nothing: a line may end without a carriage return.
    let token = if token.trim_matches([' ', '\t', '\n']) == good {
        format!("{token}x")
    } else {
        token
    };
    let mut bytes = format!("Bearer {token}").into_bytes();
    if random.chance(1, 50) {
        bytes.push(0x80 | u8::try_from(random.below(128)).unwrap());
    }
    bytes
}

/// Asks on one connection as long as the server keeps it.
struct Client<'a> {
    server: &'a Server,
    connection: Option<TcpStream>,
    connections: usize,
}

impl Client<'_> {
    fn ask(&mut self, authorization: &[u8]) -> (u16, String) {
        let mut stream = self.connection.take().unwrap_or_else(|| {
            self.connections += 1;
            let stream = TcpStream::connect(&self.server.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        });
        let head = [
            b"GET /pipelines/ HTTP/1.1\r\nHost: torture\r\nAuthorization: ",
            authorization,
            b"\r\n\r\n",
        ]
        .concat();
        stream.write_all(&head).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "no answer to {}", String::from_utf8_lossy(authorization));
            answer.extend_from_slice(&buffer[..length]);
            let Some((head, body)) = std::str::from_utf8(&answer).unwrap().split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap();
            if body.len() == length {
                self.connection = (!head.contains("connection: close")).then_some(stream);
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
            }
        }
    }
}

#[test]
fn no_token_passes_that_is_only_almost_good() {
    let (seed, count) = (seed(), if rounds().is_some() { 10_000 } else { 1000 });
    let space = TestSpace::new("pipelines: {a: {}}");
    let server = space.serve_with(&["--address", "127.0.0.1:0", "--jwt-secret", SECRET], &[]);
    let mut client = Client {
        server: &server,
        connection: None,
        connections: 0,
    };
    let mut random = Random::new(seed);
    let good = sign(HEADER, CLAIMS);
    assert!(
        good.contains('-') || good.contains('_'),
        "a token that the usual alphabet writes differently: {good}"
    );
    // Those that break the request, not only the token: the connection is closed behind these.
    let mut broken = 0;
    for number in 0..count {
        if number % 100 == 0 {
            assert_eq!(client.ask(format!("Bearer {good}").as_bytes()).0, 200, "SEED={seed}");
        }
        let authorization = mutation(&mut random, &good);
        let shown = || {
            format!(
                "SEED={seed} number {number}: {:?}",
                String::from_utf8_lossy(&authorization)
            )
        };
        let (status, body) = client.ask(&authorization);
        let breaks = authorization.len() > 15_000 || authorization.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
        if breaks && status != 401 {
            assert!(matches!(status, 400 | 431), "{status} for {}", shown());
            broken += 1;
            client.connection = None;
        } else {
            assert_eq!(status, 401, "{}", shown());
            assert!(
                body.starts_with("token ") || body == "no token found",
                "{body} for {}",
                shown()
            );
        }
    }
    assert_eq!(
        client.connections,
        broken + usize::from(client.connection.is_some()),
        "SEED={seed}"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
}
