//! Errors of a policy file with the lines that they are about.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use parole_policy::PolicyError;

use crate::fail::{Failure, Kind};

/// The width of the picture; a terminal that is narrower wraps it.
const WIDTH: usize = 100;

/// All errors of one file as one failure.
pub fn policy(name: &str, text: &str, errors: &[PolicyError]) -> Failure {
    let theme = GraphicalTheme::unicode_nocolor();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    let shown = harmless(text);
    let mut picture = String::new();
    for error in errors {
        let start = error.span.start.min(shown.len());
        let end = error.span.end.clamp(start, shown.len());
        let mut diagnostic =
            MietteDiagnostic::new(format!("{name}:{}:{}: {}", error.line, error.column, error.message))
                .with_severity(Severity::Error)
                .with_label(LabeledSpan::new_with_span(Some("here".into()), start..end));
        if let Some(help) = &error.help {
            diagnostic = diagnostic.with_help(help.clone());
        }
        let report = Report::from(diagnostic).with_source_code(NamedSource::new(name, shown.clone()));
        if handler.render_report(&mut picture, report.as_ref()).is_err() {
            picture.push_str(&format!("{name}: {error}\n"));
        }
    }
    let lines: Vec<String> = errors.iter().map(|error| format!("{name}: {error}")).collect();
    Failure { kind: Kind::Usage, message: lines.join("; "), hints: Vec::new(), picture: Some(picture) }
}

/// The file with everything that a terminal would act on replaced, byte for byte, so that spans still fit.
fn harmless(text: &str) -> String {
    use parole_capabilities::inert::{Lines, inert};
    let mut character = [0; 4];
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match inert(c.encode_utf8(&mut character), Lines::Keep) {
            std::borrow::Cow::Borrowed(_) => shown.push(c),
            std::borrow::Cow::Owned(_) => {
                shown.extend(std::iter::repeat_n(if c == '\r' { ' ' } else { '?' }, c.len_utf8()))
            }
        }
    }
    shown
}
