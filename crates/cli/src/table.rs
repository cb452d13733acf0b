//! Columns.

use unicode_width::UnicodeWidthStr as _;

use crate::output;

/// Longer cells are cut: a listing is for finding things, the whole text is in `--json`.
const CELL_MAX: usize = 120;

/// Prints rows below a heading. Cells may hold guest text.
pub fn print<const N: usize>(heading: [&str; N], rows: &[[String; N]]) {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|text| cut(text))).collect();
    let heading = heading.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&heading).chain(&rows) {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.width());
        }
    }
    for row in std::iter::once(&heading).chain(&rows) {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            line.push_str(text);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width()) + 2));
        }
        output::out(line.trim_end());
    }
}

/// Guest text on one line, not longer than a cell.
pub fn cut(text: &str) -> String {
    let shown = output::cell(text);
    match shown.char_indices().nth(CELL_MAX) {
        None => shown.into_owned(),
        Some((end, _)) => format!("{}…", &shown[..end]),
    }
}
