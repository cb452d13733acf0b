//! The nearest valid spelling of a word that is not known.

/// The candidate that `given` was most likely meant to be, or `None` when nothing is close.
///
/// Case, `-` and `_` are looked past first, so `Read-File` finds `read_file`; a beginning (`wall`) is near too.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > MAX_WORD {
        return None;
    }
    let given = fold(given);
    let room = (given.chars().count() / 4).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let folded = fold(candidate);
            let begins = given.len() > 2 && folded.starts_with(&given);
            let distance = if begins { 1 } else { strsim::damerau_levenshtein(&given, &folded) };
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= room)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Longer words are not compared: nobody mistypes that much, and the comparison takes quadratic time.
const MAX_WORD: usize = 200;

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// "did you mean `x`?", or the list of what is valid.
pub(crate) fn help(given: &str, valid: &[&str]) -> String {
    match nearest(given, valid.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("valid: {}", valid.join(", ")),
    }
}

/// A word of a file or a guest as it may stand in a message: short and on one line.
pub(crate) fn quoted(word: &str) -> String {
    let mut text: String = word.chars().take(MAX_QUOTED).collect::<String>().escape_debug().to_string();
    if word.chars().nth(MAX_QUOTED).is_some() {
        text.push('…');
    }
    format!("`{}`", text.replace("\\'", "'").replace("\\\"", "\""))
}

/// Characters of a quoted word that a message shows.
const MAX_QUOTED: usize = 200;
