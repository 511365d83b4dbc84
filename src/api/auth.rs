//! Tokens: who may use the API, and who they are.
//!
//! A token is a JWT signed with HS256 and the shared secret. Unaware of routes and sockets; the time is an argument.
//! Surprise: the signature is looked at before anything else is decoded, so that nobody without the secret can reach
//! the JSON parser.

use std::collections::BTreeMap;
use std::fmt;

use jwt_simple::algorithms::{HS256Key, MACLike};
use jwt_simple::reexports::ct_codecs::{self, Base64UrlSafeNoPadding, Decoder, Encoder};
use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::json;
use serde_json::value::RawValue;

use crate::secret::Secret;

/// A SHA-256 has this many.
const SIGNATURE_BYTES: usize = 32;

/// The user that a token names; empty where it names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User(pub String);

/// Why a request isn't let in. Clients match the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoToken,
    /// Its form, its algorithm or its signature is wrong.
    Unauthorized,
    Expired,
    NotYetValid,
    /// It says that it was issued after now.
    IssuedInFuture,
}

impl Refusal {
    /// The body of the answer, without a line end.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refusal::NoToken => "no token found",
            Refusal::Unauthorized => "token is unauthorized",
            Refusal::Expired => "token is expired",
            Refusal::NotYetValid => "token nbf validation failed",
            Refusal::IssuedInFuture => "token iat validation failed",
        }
    }

    /// The value of `WWW-Authenticate`, after RFC 6750: without a token there is no error to name.
    pub(crate) fn challenge(self) -> String {
        match self {
            Refusal::NoToken => "Bearer".to_owned(),
            Refusal::Unauthorized | Refusal::Expired | Refusal::NotYetValid | Refusal::IssuedInFuture => {
                format!("Bearer error=\"invalid_token\", error_description=\"{}\"", self.text())
            }
        }
    }
}

/// Checks tokens and makes them.
pub(crate) struct Auth {
    key: HS256Key,
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Auth")
    }
}

impl Auth {
    pub(crate) fn new(secret: &Secret) -> Auth {
        Auth {
            key: HS256Key::from_bytes(secret.expose().as_bytes()),
        }
    }

    /// The user of a request with this `Authorization` header.
    ///
    /// # Errors
    /// Where the request must be answered with 401.
    pub(crate) fn check(&self, authorization: Option<&str>, now_wall_ms: i64) -> Result<User, Refusal> {
        let token = authorization.and_then(bearer).ok_or(Refusal::NoToken)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Unauthorized)?;
        let mut buffer = [0; SIGNATURE_BYTES];
        let signature =
            Base64UrlSafeNoPadding::decode(&mut buffer, signature, None).map_err(|_| Refusal::Unauthorized)?;
        if !ct_codecs::verify(&self.key.authentication_tag(signed.as_bytes()), signature) {
            return Err(Refusal::Unauthorized);
        }
        // From here on it is known to come from someone with the secret.
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Unauthorized)?;
        check_header(header).ok_or(Refusal::Unauthorized)?;
        let claims = Claims::parse(claims).ok_or(Refusal::Unauthorized)?;
        claims.check(now_wall_ms)
    }

    /// A token for `user` (empty: it names none), without the scheme before it. It is valid at once, and to
    /// `expires_ms`, rounded up to a second.
    pub(crate) fn make_token(&self, user: &str, issued_ms: i64, expires_ms: Option<i64>) -> String {
        let mut claims = serde_json::Map::new();
        if !user.is_empty() {
            claims.insert("sub".to_owned(), json!(user));
        }
        claims.insert("iat".to_owned(), json!(issued_ms.div_euclid(1000)));
        if let Some(expires_ms) = expires_ms {
            let seconds = expires_ms.div_euclid(1000) + i64::from(expires_ms.rem_euclid(1000) > 0);
            claims.insert("exp".to_owned(), json!(seconds));
        }
        let claims = serde_json::Value::Object(claims).to_string();
        self.sign(r#"{"alg":"HS256","typ":"JWT"}"#, &claims)
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = encode(&self.key.authentication_tag(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The token behind the scheme `Bearer`; `None` where there is another scheme, or no token.
fn bearer(authorization: &str) -> Option<&str> {
    let blanks = [' ', '\t'];
    let (scheme, token) = authorization.trim_matches(blanks).split_once(blanks)?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start_matches(blanks))
}

fn check_header(encoded: &str) -> Option<()> {
    let json = decode(encoded)?;
    let header = parse_object(&json)?;
    let algorithm: String = serde_json::from_str(header.get("alg")?.get()).ok()?;
    // What `crit` lists must be understood, and nothing that it may list is.
    (algorithm == "HS256" && !header.contains_key("crit")).then_some(())
}

/// Times are seconds since 1970, with a fraction or without; infinite where they are beyond all numbers.
struct Claims {
    expires: Option<f64>,
    not_before: Option<f64>,
    issued: Option<f64>,
    user: String,
}

impl Claims {
    fn parse(encoded: &str) -> Option<Claims> {
        let json = decode(encoded)?;
        let object = parse_object(&json)?;
        let time = |name: &str| object.get(name).map(|value| number(value.get()));
        Some(Claims {
            expires: transpose(time("exp"))?,
            not_before: transpose(time("nbf"))?,
            issued: transpose(time("iat"))?,
            user: match object.get("sub") {
                Some(value) => serde_json::from_str(value.get()).ok()?,
                None => String::new(),
            },
        })
    }

    fn check(self, now_wall_ms: i64) -> Result<User, Refusal> {
        #[expect(clippy::cast_precision_loss, reason = "exact up to the year 287396")]
        // Divided, not the claims multiplied: the same number of milliseconds then gives the same floating point number.
        let now = now_wall_ms as f64 / 1000.0;
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(Refusal::Expired);
        }
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return Err(Refusal::NotYetValid);
        }
        if self.issued.is_some_and(|issued| now < issued) {
            return Err(Refusal::IssuedInFuture);
        }
        Ok(User(self.user))
    }
}

/// `None` only where a value is there and is none of the kind that it should be.
#[expect(clippy::option_option, reason = "the outer one says whether the token is sound")]
fn transpose<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

/// Looks at the text, for only there a number is a number for sure: `serde_json::Value` makes numbers of some objects.
fn number(json: &str) -> Option<f64> {
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        json.parse().ok()
    } else {
        None
    }
}

/// The values of a JSON object by their keys; `None` where it isn't one, or has a key twice: readers disagree about
/// which of two counts.
fn parse_object(json: &str) -> Option<BTreeMap<String, &RawValue>> {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = BTreeMap<String, &'de RawValue>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut object = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry()? {
                if object.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key is there twice"));
                }
            }
            Ok(object)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let object = deserializer.deserialize_map(Object).ok()?;
    deserializer.end().ok()?;
    Some(object)
}

fn decode(encoded: &str) -> Option<String> {
    let bytes = Base64UrlSafeNoPadding::decode_to_vec(encoded, None).ok()?;
    String::from_utf8(bytes).ok()
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).expect("tokens are far smaller than the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const NOW_MS: i64 = 1_795_490_867_500;
    const UNAUTHORIZED: Result<&str, Refusal> = Err(Refusal::Unauthorized);

    fn auth() -> Auth {
        Auth::new(&Secret::new("0123456789abcdef"))
    }

    #[track_caller]
    fn check_authorization(authorization: Option<&str>, expected: Result<&str, Refusal>) {
        let expected = expected.map(|user| User(user.to_owned()));
        assert_eq!(auth().check(authorization, NOW_MS), expected, "{authorization:?}");
    }

    #[track_caller]
    fn check_token(token: &str, expected: Result<&str, Refusal>) {
        check_authorization(Some(&format!("Bearer {token}")), expected);
    }

    #[track_caller]
    fn check_header(header: &str, expected: Result<&str, Refusal>) {
        check_token(&auth().sign(header, r#"{"sub":"anna"}"#), expected);
    }

    #[track_caller]
    fn check_claims(claims: &str, expected: Result<&str, Refusal>) {
        check_token(&auth().sign(HEADER, claims), expected);
    }

    fn anna() -> String {
        auth().sign(HEADER, r#"{"sub":"anna"}"#)
    }

    #[test]
    fn tokens_made_elsewhere_are_understood() {
        // Signed by another implementation.
        check_token(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm5hIn0._ceYYS2SFwBQRhU88mX3xQNnCMdRjjVprwe7qMXGmAg",
            Ok("anna"),
        );
        // HMAC hashes keys that are longer than a block.
        let long = Auth::new(&Secret::new("0123456789abcdef".repeat(5)));
        assert_eq!(
            long.check(
                Some("Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm5hIn0.Oe2xu4DtzwOyGaPJ7Yo8X-K6re1Dc6NnlR_kijLc6Tg"),
                NOW_MS
            ),
            Ok(User("anna".to_owned()))
        );
    }

    #[test]
    fn the_scheme_may_be_in_any_case_and_blanks_do_not_matter() {
        let token = anna();
        check_authorization(Some(&format!("bearer {token}")), Ok("anna"));
        check_authorization(Some(&format!("BEARER {token}")), Ok("anna"));
        check_authorization(Some(&format!("BeArEr   {token} ")), Ok("anna"));
        check_authorization(Some(&format!("Bearer\t{token}")), Ok("anna"));
        check_authorization(Some(&format!("Bearer {token} x")), UNAUTHORIZED);
        check_authorization(Some(&format!("Bearer {token},")), UNAUTHORIZED);
        check_authorization(Some(&format!("Bearer Bearer {token}")), UNAUTHORIZED);
    }

    #[test]
    fn without_the_scheme_there_is_no_token() {
        let token = anna();
        check_authorization(None, Err(Refusal::NoToken));
        check_authorization(Some(""), Err(Refusal::NoToken));
        check_authorization(Some("Bearer"), Err(Refusal::NoToken));
        check_authorization(Some("Bearer  "), Err(Refusal::NoToken));
        check_authorization(Some(&token), Err(Refusal::NoToken));
        check_authorization(Some(&format!("Basic {token}")), Err(Refusal::NoToken));
        check_authorization(Some(&format!("Bearer{token}")), Err(Refusal::NoToken));
        check_authorization(Some(&format!("Bearers {token}")), Err(Refusal::NoToken));
        check_authorization(Some(&format!("Bearer:{token}")), Err(Refusal::NoToken));
    }

    #[test]
    fn other_algorithms_are_refused_even_with_a_good_signature() {
        check_header(HEADER, Ok("anna"));
        check_header(r#"{"alg":"HS256"}"#, Ok("anna"));
        check_header(r#"{"alg":"HS256","typ":7,"kid":"x"}"#, Ok("anna"));
        for algorithm in [
            "none", "None", "hs256", "HS384", "HS512", "RS256", "ES256", "HS256 ", "",
        ] {
            check_header(&format!(r#"{{"alg":"{algorithm}"}}"#), UNAUTHORIZED);
        }
        for header in [
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"HS256","crit":null}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"none","alg":"HS256"}"#,
            r#"{"alg":"HS256","\u0061lg":"none"}"#,
            r#"{"alg":"HS256"} {}"#,
            r#"["HS256"]"#,
            "\"HS256\"",
            "",
            "{",
        ] {
            check_header(header, UNAUTHORIZED);
        }
        let unsigned = format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(br#"{"sub":"anna"}"#));
        check_token(&unsigned, UNAUTHORIZED);
    }

    #[test]
    fn changed_parts_are_refused() {
        let token = anna();
        check_token(&token, Ok("anna"));
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("a token has three parts")
        };
        let other = encode(br#"{"sub":"otto"}"#);
        check_token(&format!("{header}.{other}.{signature}"), UNAUTHORIZED);
        check_token(&format!("{header}.{claims}.{}", &signature[1..]), UNAUTHORIZED);
        check_token(&format!("{header}.{claims}."), UNAUTHORIZED);
        check_token(&format!("{header}.{claims}"), UNAUTHORIZED);
        check_token(&format!("{header}..{signature}"), UNAUTHORIZED);
        check_token(&format!(".{claims}.{signature}"), UNAUTHORIZED);
        check_token(&format!("{token}."), UNAUTHORIZED);
        check_token(&format!("{token}.{signature}"), UNAUTHORIZED);
        check_token(&format!("{token}="), UNAUTHORIZED);
        check_token(&format!("{token}A"), UNAUTHORIZED);
        check_token(&format!("{token}\u{e4}"), UNAUTHORIZED);
        check_token(".", UNAUTHORIZED);
        check_token("..", UNAUTHORIZED);
        check_token("x", UNAUTHORIZED);
        // Every bit of the signature counts, also those behind the last whole byte.
        for index in 0..signature.len() {
            let mut changed = signature.to_owned().into_bytes();
            changed[index] = if changed[index] == b'B' { b'C' } else { b'B' };
            let changed = String::from_utf8(changed).unwrap();
            check_token(&format!("{header}.{claims}.{changed}"), UNAUTHORIZED);
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let token = anna();
        let last = token.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for other in alphabet.chars().filter(|&other| other != last) {
            check_token(&format!("{}{other}", &token[..token.len() - 1]), UNAUTHORIZED);
        }
    }

    #[test]
    fn parts_that_are_signed_but_not_sound_are_refused() {
        let sign = |signed: &str| format!("{signed}.{}", encode(&auth().key.authentication_tag(signed.as_bytes())));
        let header = encode(HEADER.as_bytes());
        let claims = encode(br#"{"sub":"x"}"#);
        check_token(&sign(&format!("{header}.{claims}")), Ok("x"));
        check_token(&sign(&format!("{header}.{claims}=")), UNAUTHORIZED);
        check_token(&sign(&format!("{header}.{claims}.{claims}")), UNAUTHORIZED);
        check_token(
            &sign(&format!("{header}.{}", encode(b"{\"sub\":\"\xff\"}"))),
            UNAUTHORIZED,
        );
        check_token(&sign(&header), UNAUTHORIZED);
        check_token(&sign(""), UNAUTHORIZED);
    }

    #[test]
    fn another_secret_is_refused() {
        let other = Auth::new(&Secret::new("0123456789abcdeg"));
        check_token(&other.make_token("anna", NOW_MS, None), UNAUTHORIZED);
    }

    #[test]
    fn claims_must_be_one_object_without_doubles() {
        check_claims("{}", Ok(""));
        check_claims(r#" {"sub":"a\u00f6", "more": {"x": [1]}} "#, Ok("aö"));
        check_claims(r#"{"sub":""}"#, Ok(""));
        for claims in [
            "",
            "null",
            "[]",
            "7",
            "{} {}",
            "{}x",
            r#"{"sub":7}"#,
            r#"{"sub":null}"#,
            r#"{"sub":["anna"]}"#,
            r#"{"sub":"\ud800"}"#,
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"exp":1795490868,"exp":1}"#,
            r#"{"exp":1,"\u0065xp":1795490868}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"sub":"a",}"#,
        ] {
            check_claims(claims, UNAUTHORIZED);
        }
    }

    #[test]
    fn times_are_checked_without_leeway() {
        check_claims(r#"{"exp":1795490868}"#, Ok(""));
        check_claims(r#"{"exp":1795490867.501}"#, Ok(""));
        check_claims(r#"{"exp":1795490867.5}"#, Err(Refusal::Expired));
        check_claims(r#"{"exp":1795490867}"#, Err(Refusal::Expired));
        check_claims(r#"{"nbf":1795490867.5}"#, Ok(""));
        check_claims(r#"{"nbf":1795490867.501}"#, Err(Refusal::NotYetValid));
        check_claims(r#"{"nbf":1795490868}"#, Err(Refusal::NotYetValid));
        check_claims(r#"{"iat":1795490867}"#, Ok(""));
        check_claims(r#"{"iat":1.7954908675e9}"#, Ok(""));
        check_claims(r#"{"iat":1795490868}"#, Err(Refusal::IssuedInFuture));
        check_claims(r#"{"exp":1,"nbf":1e10,"iat":1e10}"#, Err(Refusal::Expired));
        check_claims(r#"{"nbf":1e10,"iat":1e10}"#, Err(Refusal::NotYetValid));
    }

    #[test]
    fn odd_numbers_are_numbers() {
        check_claims(r#"{"exp":1e400}"#, Ok(""));
        check_claims(r#"{"exp":99999999999999999999999999999999}"#, Ok(""));
        check_claims(r#"{"nbf":1e400}"#, Err(Refusal::NotYetValid));
        check_claims(r#"{"iat":18446744073709551616}"#, Err(Refusal::IssuedInFuture));
        check_claims(r#"{"exp":0}"#, Err(Refusal::Expired));
        check_claims(r#"{"exp":-1}"#, Err(Refusal::Expired));
        check_claims(r#"{"exp":-1e400}"#, Err(Refusal::Expired));
        check_claims(r#"{"nbf":-1,"iat":-0.5}"#, Ok(""));
        check_claims(r#"{"exp":1e-400}"#, Err(Refusal::Expired));
    }

    #[test]
    fn times_of_other_types_are_refused() {
        for name in ["exp", "nbf", "iat"] {
            for value in [
                "null",
                "true",
                "\"1795490868\"",
                "[1795490868]",
                "{}",
                "{\"$serde_json::private::Number\":\"1795490868\"}",
                "NaN",
                "+1",
                "01",
            ] {
                check_claims(&format!("{{\"{name}\":{value}}}"), UNAUTHORIZED);
            }
        }
        // Also where another claim has a complaint of its own.
        check_claims(r#"{"exp":1,"iat":"x"}"#, UNAUTHORIZED);
    }

    #[test]
    fn made_tokens_are_accepted_at_once_and_until_they_expire() {
        let auth = auth();
        let check = |token: &str, now_ms| auth.check(Some(&format!("Bearer {token}")), now_ms);
        let anna = Ok(User("anna".to_owned()));
        let token = auth.make_token("anna", NOW_MS, None);
        assert_eq!(check(&token, NOW_MS), anna);
        assert_eq!(check(&token, i64::MAX), anna);
        let token = auth.make_token("anna", NOW_MS, Some(NOW_MS + 100));
        assert_eq!(check(&token, NOW_MS + 100), anna);
        assert_eq!(check(&token, NOW_MS + 500), Err(Refusal::Expired));
        let token = auth.make_token("", NOW_MS, None);
        assert_eq!(
            decode(token.split('.').nth(1).unwrap()).unwrap(),
            r#"{"iat":1795490867}"#
        );
        assert_eq!(check(&token, NOW_MS), Ok(User(String::new())));
        let odd = "a\"b\\c\nö";
        assert_eq!(
            check(&auth.make_token(odd, NOW_MS, None), NOW_MS),
            Ok(User(odd.to_owned()))
        );
    }

    #[test]
    fn refusals_say_what_clients_match() {
        for (refusal, text, challenge) in [
            (Refusal::NoToken, "no token found", "Bearer"),
            (
                Refusal::Unauthorized,
                "token is unauthorized",
                "Bearer error=\"invalid_token\", error_description=\"token is unauthorized\"",
            ),
            (
                Refusal::Expired,
                "token is expired",
                "Bearer error=\"invalid_token\", error_description=\"token is expired\"",
            ),
            (
                Refusal::NotYetValid,
                "token nbf validation failed",
                "Bearer error=\"invalid_token\", error_description=\"token nbf validation failed\"",
            ),
            (
                Refusal::IssuedInFuture,
                "token iat validation failed",
                "Bearer error=\"invalid_token\", error_description=\"token iat validation failed\"",
            ),
        ] {
            assert_eq!((refusal.text(), &*refusal.challenge()), (text, challenge));
        }
    }
}
