//! What a rule may look at: the arguments of each capability, by name and type.

/// The longest text that a rule looks at, in bytes, and all the text of one list together. A call that is asked
/// about with more is denied.
pub const MAX_SEEN: u32 = 64 << 10;
/// The most items of a list that a rule looks at. A call with more is denied.
pub const MAX_ITEMS: u32 = 256;

/// The type of an argument, as far as a rule is concerned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ArgType {
    /// Text of so many bytes at most.
    Text(u32),
    /// The same without capitals: comparing it with a capital letter is a mistake.
    Lower(u32),
    /// A whole number.
    Int,
    /// Bytes, of any length.
    Bytes,
    /// Null, a number, text or bytes.
    Any,
    /// A list of [`MAX_ITEMS`] at most.
    List(&'static ArgType),
    /// Fields by name.
    Record(&'static [(&'static str, ArgType)]),
    /// That or null.
    Optional(&'static ArgType),
}

/// A table of arguments.
pub type ArgumentTable = &'static [(&'static str, ArgType)];

const URL: ArgType = ArgType::Text(crate::MAX_URL as u32);
const PATH: ArgType = ArgType::Text(crate::MAX_GUEST_PATH as u32);
const TEXT: ArgType = ArgType::Text(MAX_SEEN);

/// The parsed URL: what is sent and where to.
const TARGET: ArgType = ArgType::Record(&[
    ("scheme", ArgType::Lower(5)),
    ("host", ArgType::Lower(256)),
    ("port", ArgType::Int),
    ("path", URL),
    ("query", URL),
]);

/// `fetch`: `request.url` is the parsed URL in one spelling, header names are in lower case.
pub const FETCH_ARGUMENTS: ArgumentTable = &[
    (
        "request",
        ArgType::Record(&[
            ("method", ArgType::Text(crate::MAX_METHOD as u32)),
            ("url", URL),
            ("headers", ArgType::List(&ArgType::Record(&[("name", ArgType::Lower(MAX_SEEN)), ("value", TEXT)]))),
            ("body", ArgType::Optional(&ArgType::Bytes)),
        ]),
    ),
    ("target", TARGET),
];
/// `websocket`: `url` is the parsed URL in one spelling.
pub const WEBSOCKET_ARGUMENTS: ArgumentTable = &[("url", URL), ("target", TARGET)];
/// `query`
pub const QUERY_ARGUMENTS: ArgumentTable = &[
    ("database", ArgType::Lower(crate::MAX_DATABASE_NAME as u32)),
    ("sql", TEXT),
    ("parameters", ArgType::List(&ArgType::Any)),
];
/// `read_file`
pub const READ_FILE_ARGUMENTS: ArgumentTable = &[("path", PATH)];
/// `write_file`
pub const WRITE_FILE_ARGUMENTS: ArgumentTable = &[("path", PATH), ("contents", ArgType::Bytes)];
/// `input`
pub const INPUT_ARGUMENTS: ArgumentTable = &[("prompt", TEXT)];
/// `approve`
pub const APPROVE_ARGUMENTS: ArgumentTable = &[("question", TEXT)];
/// `review`
pub const REVIEW_ARGUMENTS: ArgumentTable = &[("title", TEXT), ("text", TEXT)];
/// `sleep`
pub const SLEEP_ARGUMENTS: ArgumentTable = &[("duration_ms", ArgType::Int)];
/// `schedule`
pub const SCHEDULE_ARGUMENTS: ArgumentTable = &[("pattern", ArgType::Text(256)), ("zone", ArgType::Text(64))];
/// `clock`
pub const CLOCK_ARGUMENTS: ArgumentTable = &[];
/// `random`
pub const RANDOM_ARGUMENTS: ArgumentTable = &[("length", ArgType::Int)];
/// `print`
pub const PRINT_ARGUMENTS: ArgumentTable = &[("text", TEXT)];
/// `log`
pub const LOG_ARGUMENTS: ArgumentTable = &[("level", ArgType::Lower(8)), ("message", TEXT)];
/// `display`
pub const DISPLAY_ARGUMENTS: ArgumentTable = &[("mime", ArgType::Text(1024)), ("data", ArgType::Bytes)];

/// The arguments of each capability that Parole itself defines, by its name.
const TABLES: [(&str, ArgumentTable); 15] = [
    ("clock", CLOCK_ARGUMENTS),
    ("random", RANDOM_ARGUMENTS),
    ("schedule", SCHEDULE_ARGUMENTS),
    ("print", PRINT_ARGUMENTS),
    ("log", LOG_ARGUMENTS),
    ("display", DISPLAY_ARGUMENTS),
    ("input", INPUT_ARGUMENTS),
    ("approve", APPROVE_ARGUMENTS),
    ("review", REVIEW_ARGUMENTS),
    ("sleep", SLEEP_ARGUMENTS),
    (crate::READ_FILE, READ_FILE_ARGUMENTS),
    (crate::WRITE_FILE, WRITE_FILE_ARGUMENTS),
    (crate::FETCH, FETCH_ARGUMENTS),
    (crate::WEBSOCKET, WEBSOCKET_ARGUMENTS),
    (crate::QUERY, QUERY_ARGUMENTS),
];

/// The arguments that rules for a capability of Parole may look at; none for a name that it doesn't know.
pub fn arguments_of(capability: &str) -> ArgumentTable {
    TABLES.iter().find(|(name, _)| *name == capability).map_or(&[], |(_, table)| table)
}
