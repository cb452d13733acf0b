//! The one spelling of a path and a query of a URL, for what looks at them.
//!
//! RFC 3986 has several spellings of one thing, and servers, gateways and frameworks disagree about more: whether `%2f`
//! parts a path, `//` is `/`, `;x` belongs to a name, `%25` is decoded twice, `+` is a blank. A rule cannot know which
//! of them reads the URL. So what all of them agree on is put into one spelling, and the rest is refused.

/// Why a part has no one spelling, in words that come after "it holds".
pub(crate) type Odd = &'static str;

const ESCAPE: Odd = "a `%` that is not followed by two hexadecimal digits";
const TWICE: Odd = "an escape within an escape (`%25…`)";
const CONTROL: Odd = "an escaped control character";
const NOT_TEXT: Odd = "escapes that are not UTF-8";
const LITERAL: Odd = "a character that has to be escaped";

/// The one spelling of a path, as the parser of URLs gives it: absolute, with dot segments resolved.
pub(crate) fn path(path: &str) -> Result<String, Odd> {
    let path = spelt(path, &|byte| match byte {
        b'/' | b'\\' => Err("an escaped slash (`%2f` or `%5c`)"),
        b'+' => Err("an escaped `+`"),
        b';' => Err("an escaped `;`"),
        byte if byte.is_ascii_control() => Err(CONTROL),
        byte => Ok(is_plain(byte) || b"!$&'()*,=:@".contains(&byte)),
    })?;
    if path.contains("//") {
        return Err("an empty segment (`//`)");
    }
    if path.contains(';') {
        return Err("a parameter of a segment (`;`)");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a segment of dots");
    }
    let literal = |byte: u8| is_plain(byte) || b"/%!$&'()*+,=:@".contains(&byte);
    if path.bytes().all(literal) { Ok(path) } else { Err(LITERAL) }
}

/// The one spelling of a query, as the parser of URLs gives it.
pub(crate) fn query(query: &str) -> Result<String, Odd> {
    if query.contains('+') {
        return Err("a `+` (a blank is `%20`, a plus sign `%2B`)");
    }
    if query.contains(';') {
        return Err("a `;`");
    }
    let query = spelt(query, &|byte| match byte {
        0 => Err(CONTROL),
        byte => Ok(is_plain(byte) || b"!$()*,:@/?".contains(&byte)),
    })?;
    let literal = |byte: u8| is_plain(byte) || b"/?%!$&()*,=:@".contains(&byte);
    if query.bytes().all(literal) { Ok(query) } else { Err(LITERAL) }
}

/// Whether some path, in its one spelling, may hold this text.
pub(crate) fn may_be_in_path(text: &str) -> bool {
    let escapes = text.match_indices('%').filter_map(|(at, _)| text.get(at + 1..at + 3));
    let mut escapes = escapes.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let stays = |hex: &str| match path(&format!("/%{hex}")) {
        Ok(path) => path.ends_with(hex) && path.len() == 4,
        // A part of a character.
        Err(odd) => odd == NOT_TEXT && !hex.bytes().any(|digit| digit.is_ascii_lowercase()),
    };
    !text.contains("//") && !text.contains(';') && escapes.all(stays)
}

/// What RFC 3986 calls unreserved: it means the same escaped and not.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Undoes the escapes of which `bare` says so, and writes the others in capitals.
fn spelt(text: &str, bare: &dyn Fn(u8) -> Result<bool, Odd>) -> Result<String, Odd> {
    let (mut spelt, mut decoded) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let byte = after.get(..2).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or(ESCAPE)?;
        spelt.push_str(before);
        decoded.extend_from_slice(before.as_bytes());
        decoded.push(byte);
        if bare(byte)? {
            spelt.push(char::from(byte));
        } else {
            spelt.push_str(&format!("%{byte:02X}"));
        }
        rest = after.get(2..).unwrap_or_default();
    }
    spelt.push_str(rest);
    decoded.extend_from_slice(rest.as_bytes());
    let decoded = std::str::from_utf8(&decoded).map_err(|_| NOT_TEXT)?;
    let again = |at: usize| decoded.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|d| d.is_ascii_hexdigit()));
    if decoded.match_indices('%').any(|(at, _)| again(at)) {
        return Err(TWICE);
    }
    Ok(spelt)
}
